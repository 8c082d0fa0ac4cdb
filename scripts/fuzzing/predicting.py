"""`predict` on damaged pictures under strange names, with a sound bundle or a damaged one, into files and folders."""

import contextlib
import json
from pathlib import Path
from random import Random

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.prediction.expert import Expert
from fuzzing import bundles, images
from fuzzing.kind import Kind, Left, command
from reference.hostile_bundles import copy_of

_BUNDLE_IS_SOUND = 0.7
_NAMES = (
    "red.png",
    "-",
    "--json",
    "a b.jpg",
    "\u202e.png",
    "caf\u00e9.jpg",
    "n" * 200 + ".png",
    "[x].png",
    "line\n.png",
)
_ROWS = {"--json": False, "--jsonl": True}  # whether each line is a document


def _make(random: Random, samples: Path, folder: Path) -> None:
    images.IMAGES.make(random, samples, folder)
    if random.random() < _BUNDLE_IS_SOUND:
        copy_of(samples / "bundle", folder / "bundle")
    else:
        bundles.BUNDLES.make(random, samples, folder)
    for path in sorted((folder / "images").rglob("*")):
        if path.is_file() and random.randint(0, 3) == 0:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(random.choice(_NAMES)))
    if random.randint(0, 3) == 0:
        _lead_out(random, folder)


def _lead_out(random: Random, folder: Path) -> None:
    """Put links to somebody else's files among the pictures, and into the folder that pictures are sorted into."""
    others = Path.cwd().parent / "others"
    (folder / "images" / "link.png").symlink_to(random.choice((others, others / "secret.json", folder / "images")))
    sorted_into = folder / "sorted"
    sorted_into.mkdir()
    target = random.choice((others, others / "secret.json", folder / "nothing"))
    (sorted_into / random.choice(("circle", "not sure", "none of the classes"))).symlink_to(target)


def _examine(random: Random, folder: Path) -> None:
    bundle, pictures = folder / "bundle", folder / "images"
    named = [path for path in sorted(pictures.rglob("*")) if path.is_file()]
    asked: list[str | Path] = [random.choice((pictures, pictures / "**" / "*", *named))]
    shown: str | None = random.choice([None, *_ROWS])
    sorted_into = folder / "sorted"
    flags: list[list[list[str | Path]]] = [
        [[], ["--top", "2"], ["--threshold", "0.9"], ["--batch-size", "1"]],
        [[], ["--save", sorted_into], ["--save", sorted_into, "--links"]],
        [[], [], ["--csv", folder / "answers.csv"]],
        [[shown] if shown else []],
    ]
    words = [word for choices in flags for word in random.choice(choices)]
    outcome = command(random, "predict", bundle, *words, "--", *asked)
    if shown and outcome.code == 0:
        _require_documents(outcome.stdout, one_a_line=_ROWS[shown])
    with contextlib.suppress(EdgeDistillError), Expert(bundle, limit_s=5) as expert:
        for path in named:
            with contextlib.suppress(EdgeDistillError):
                expert.predict(path)
            with contextlib.suppress(EdgeDistillError):
                expert.predict(path.read_bytes())


def _require_documents(text: str, *, one_a_line: bool) -> None:
    for document in text.strip().split("\n") if one_a_line else [text]:
        try:
            found = json.loads(document)
        except ValueError as error:
            raise Left(f"predict prints what is no JSON: {error}") from error
        if not isinstance(found, dict) or not {"kind", "schema"} & set(found):
            raise Left("predict prints a document without a kind")


PREDICTING = Kind(name="predicting", weight=3.0, prepare=bundles.prepare_bundle, make=_make, examine=_examine)
