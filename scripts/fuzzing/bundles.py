"""Damaged bundles with forged hashes, links that lead out, and records of measurements that say anything."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.parity import ParityReport, read_parity
from edgedistill_deploy.report.junit import junit_text
from edgedistill_deploy.report.markdown import markdown_text
from fuzzing.kind import Kind, command
from reference.hostile_bundles import copy_of, examine, register_anew, write_full_bundle
from reference.mutations import changed_bytes, changed_json, changed_npz, changed_onnx, changed_safetensors

_CHANGED_BY_STRUCTURE: dict[str, Callable[[bytes, Random], bytes]] = {
    ".npz": changed_npz,
    ".onnx": changed_onnx,
    ".safetensors": changed_safetensors,
}
_FOLDERS = ("parity", "latency", "distill", "explain", "answers", "flips", "latency-comparison")


def prepare_bundle(folder: Path) -> None:
    """Write the sound bundle, unless it is there."""
    if not (folder / "bundle").exists():
        sound = write_full_bundle(folder / "made-bundle")
        copy_of(sound, folder / "bundle")


def _make_bundle(random: Random, samples: Path, folder: Path) -> None:
    bundle = copy_of(samples / "bundle", folder / "bundle")
    for _ in range(random.randint(1, 2)):
        random.choice((_damage_file,) * 8 + (_lead_out, _add_record, _swap))(random, bundle)
    if random.randint(0, 9):
        register_anew(bundle)


def _damage_file(random: Random, bundle: Path) -> None:
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink())
    path = random.choice(files)
    content, by_structure = path.read_bytes(), random.randint(0, 3) > 0
    with contextlib.suppress(Exception):  # a second change may meet what the first left
        if by_structure and path.suffix == ".json":
            path.write_text(json.dumps(changed_json(json.loads(content), random)))
        elif by_structure and path.suffix in _CHANGED_BY_STRUCTURE:
            path.write_bytes(_CHANGED_BY_STRUCTURE[path.suffix](content, random))
        else:
            path.write_bytes(changed_bytes(content, random))


def _lead_out(random: Random, bundle: Path) -> None:
    """Put a link in the place of a file or folder: to somebody else's files, to itself, to nothing, or to a pipe."""
    others = Path.cwd().parent / "others"
    place = bundle / random.choice((*_FOLDERS, *(path.name for path in sorted(bundle.iterdir())), "report.html"))
    if place.is_dir() and not place.is_symlink():
        place.rename(bundle.parent / f"moved-{place.name}-{random.randint(0, 10**6)}")
    place.unlink(missing_ok=True)
    target = random.choice(
        (others, others / "secret.json", others / "secret.npz", place, bundle / "nothing", Path("/dev/zero"))
    )
    if random.randint(0, 9) == 0:
        os.mkfifo(place)
    else:
        place.symlink_to(target)


def _add_record(random: Random, bundle: Path) -> None:
    """Add a record under a strange name, or in the place of a folder."""
    folder = bundle / random.choice(_FOLDERS)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        name = random.choice(("x.json", "\u202e.json", "a b.json", "-.json", "n" * 240 + ".json", "\n.json", "..json"))
        (folder / name).write_bytes(
            random.choice((b"", b"{}", b"[]", b"null", b"\xff", b'{"kind": "parity", "schema": 1}'))
        )


def _swap(random: Random, bundle: Path) -> None:
    """Let two files change places."""
    files = sorted(path for path in bundle.rglob("*") if path.is_file() and not path.is_symlink())
    one, other = random.choice(files), random.choice(files)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def _examine_bundle(random: Random, folder: Path) -> None:
    bundle = folder / "bundle"
    kind = random.choice(("library",) * 4 + ("validate", "report", "ledger", "summaries", "bisect", "profile"))
    if kind == "library":
        examine(bundle)
    elif kind == "summaries":
        command(random, "validate", bundle, "--junit", folder / "j.xml", "--markdown", folder / "m.md", "--quiet")
    elif kind == "bisect":
        command(random, "validate", bundle, "--bisect", "--against", "unoptimised", "--quiet")
    elif kind == "profile":
        command(random, "profile", bundle, "--duration", "0.05", "--warmup", "0", "--quiet")
    else:
        command(random, kind, bundle, *random.choice(((), ("--json",))))


def _make_records(random: Random, samples: Path, folder: Path) -> None:
    bundle = copy_of(samples / "bundle", folder / "bundle")
    for path in sorted([*bundle.glob("parity/*.json"), *bundle.glob("latency/*.json")]):
        record = json.loads(path.read_text())
        for _ in range(random.randint(0, 3)):
            if isinstance(record, dict) and record:
                record = changed_json(record, random)
        path.write_text(json.dumps(record))


def _examine_records(random: Random, folder: Path) -> None:
    """Read the records one by one, print them, and write the report, as XML and as Markdown."""
    bundle = folder / "bundle"
    for path in sorted(bundle.glob("*/*.json")):
        record = json.loads(path.read_text())
        for kind in (ParityReport, LatencyReport):
            with contextlib.suppress(EdgeDistillError):
                read = kind.from_json(record)
                write_json(folder / "again.json", read.to_json())
                str(read)
        if isinstance(record, dict):
            told = read_parity(record)
            junit_text([told, told])
            markdown_text([told, told])
    command(random, "report", bundle, "--quiet")
    open_bundle(bundle)


BUNDLES = Kind(name="bundles", weight=4.0, prepare=prepare_bundle, make=_make_bundle, examine=_examine_bundle)
RECORDS = Kind(name="records", weight=2.0, prepare=prepare_bundle, make=_make_records, examine=_examine_records)
