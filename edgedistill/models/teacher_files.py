"""What a teacher's name and files say without its weights: its folder and its labels."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from edgedistill.models.libraries.forms import HUB
from edgedistill.models.libraries.timm_names import check_timm_name, find_timm_labels, timm_config
from edgedistill.models.names import split_teacher_name
from edgedistill.models.timm_list import is_listed
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.errors import DataError, UsageError, quote_value, reading
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.names import is_plain_text
from edgedistill_deploy.files.text import read_text

_OVER = ("num_classes", "label_names")  # win over the same keys of pretrained_cfg


def teacher_labels(name: str, classes: Path | None = None) -> tuple[str, ...]:
    """Return a teacher's labels in output order without its weights; only `timm:` and `torchvision:` need torch.

    Args:
        name: as for `load_teacher`.
        classes: a text file with one label a line.

    Raises:
        UsageError: there is no such model, it carries no labels, or they are known only once it is loaded.
        DataError: its `config.json` cannot be read.
    """
    if classes is not None:
        return read_labels(classes)
    kind, rest = split_teacher_name(name)
    if kind == "torchvision":
        from edgedistill.models.libraries.torchvision_models import torchvision_labels

        return torchvision_labels(rest)
    is_fetched = kind == "transformers" and not Path(rest).is_dir()
    if kind == "python" or is_fetched or name.startswith(f"timm:{HUB}"):
        raise UsageError(
            f"The labels of the teacher {name} are known only once it is loaded; give them with --teacher-classes FILE,"
            " one a line, in output order."
        )
    if kind == "timm":
        check_timm_name(rest)
        config = timm_config(rest)
    else:
        config = _folder_config(teacher_folder(kind, rest))
    return require_labels(name, config["num_classes"], find_timm_labels(config))


def require_labels(name: str, outputs: int, labels: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the labels; UsageError if a teacher with so many outputs carries none, or another number of them."""
    if labels is None:
        raise UsageError(
            f"The teacher {name} carries no labels for its {outputs} outputs; give them with --teacher-classes FILE, "
            "one a line, in output order."
        )
    if len(labels) != outputs:
        raise UsageError(
            f"The teacher {name} has {outputs} outputs, and {len(labels)} labels were given"
            f"{f', the first of them {labels[0]!r}' if labels else ''}; give one for each output, in output order."
        )
    return labels


def teacher_folder(kind: str, rest: str) -> Path:
    """Return the folder of an embedded or a local teacher.

    Raises:
        UsageError: there is no such teacher.
        DataError: a part is missing.
    """
    folder = Path(str(resources.files("edgedistill").joinpath("embedded"))) / rest if kind == "embedded" else Path(rest)
    if kind == "embedded" and not (folder / "config.json").is_file():
        raise UsageError(
            f"There is no embedded teacher {f'embedded:{rest}'!r}; the one that ships is embedded:glyphs100."
        )
    if not folder.is_dir():
        meant = f" Did you mean timm:{rest}?" if is_listed(rest) else ""
        raise UsageError(
            f"The teacher {rest!r} is neither timm:NAME, torchvision:NAME, transformers:OWNER/NAME nor an existing "
            f"folder with config.json and model.safetensors. Give one of them with --teacher.{meant}"
        )
    for part in ("config.json", "model.safetensors"):
        if not (folder / part).is_file() and not (part != "config.json" and is_of_transformers(folder)):
            raise DataError(f"The teacher folder {folder} has no {part}; timm's save_for_hf writes both files.")
    return folder


def is_of_transformers(folder: Path) -> bool:
    """Tell whether a folder's config.json is one of transformers; timm's names an architecture instead."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config and "architecture" not in config


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a class file: one label a line, or JSON.

    JSON is a list of labels, {"0": label, ...} or {label: 0, ...}. A label may also be [synset id, name]; an id of
    ImageNet then gives the words of its class. UsageError names the file and what is wrong in it.
    """
    if not path.is_file():
        raise UsageError(f"There is no class file {path}; it holds one label a line, in the teacher's output order.")
    text = read_text(path, "class file")
    if path.suffix.lower() == ".json" or text.strip()[:1] + text.strip()[-1:] in ("{}", "[]"):
        labels = _labels_in_json(text, path)
    else:
        labels = tuple(line.strip() for line in text.split("\n") if line.strip())
    for label in labels:
        if not is_plain_text(label):
            raise UsageError(
                f"The class file {path} has the label {quote_value(label)}, with a control character; remove it."
            )
    return labels


def _labels_in_json(text: str, path: Path) -> tuple[str, ...]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise UsageError(f"The class file {path} is not valid JSON: {error}.") from error
    if isinstance(found, dict):
        found = _in_order(found)
    if not isinstance(found, list) or not all(map(_is_label, found)):
        raise UsageError(
            f"The class file {path} holds neither a list of labels nor a label for each of the positions 0, 1, 2, ...; "
            'write ["cat", "dog"], {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}.'
        )
    known = labels_of_synsets()
    pairs = (each if isinstance(each, list) else ("", each) for each in found)
    return tuple(str(known.get(synset, label)) for synset, label in pairs)


def _in_order(found: Mapping[str, Any]) -> list[Any] | None:
    """Return the labels of {position: label} or {label: position}; None when the positions are not 0, 1, 2, ..."""
    numbered = all(isinstance(value, int) for value in found.values())
    pairs = [(str(value), key) if numbered else (key, value) for key, value in found.items()]
    places = {int(place): label for place, label in pairs if place.isdecimal() and len(place) < 10}
    return [places[place] for place in range(len(pairs))] if set(places) == set(range(len(pairs))) else None


def _is_label(value: object) -> bool:
    pair = isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)
    return isinstance(value, str) or pair


def _folder_config(folder: Path) -> dict[str, Any]:
    """Read what timm reads: the keys of `pretrained_cfg`, under those beside it."""
    path = folder / "config.json"
    with reading(path):
        text = path.read_bytes()
    try:
        whole = json.loads(text)
        if is_of_transformers(folder):
            named = whole["id2label"]
            labels = [named[place] for place in sorted(named, key=int)]
            return {"num_classes": len(labels), "label_names": labels}
        config = {**whole, **whole.get("pretrained_cfg", {}), **{key: whole[key] for key in _OVER if key in whole}}
        return {**config, "num_classes": int(config["num_classes"])}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path} is not the JSON that timm's save_for_hf writes ({error}).") from error
