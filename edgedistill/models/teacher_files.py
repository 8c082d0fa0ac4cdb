"""What a teacher's name and files say without its weights: its folder and its labels."""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets
from edgedistill_deploy.errors import DataError, UsageError, nearest_names, quote_value, reading
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.text import is_printable, read_text

EMBEDDED = "embedded:"
TIMM = "timm:"
_OVER = ("num_classes", "label_names")  # win over the same keys of pretrained_cfg


def teacher_labels(name: str, classes: Path | None = None) -> tuple[str, ...]:
    """Return a teacher's labels in output order without loading its weights; only `timm:NAME` imports torch.

    Args:
        name: as for `load_teacher`.
        classes: a text file with one label a line.

    Raises:
        UsageError: there is no such model, or it carries no labels.
        DataError: its `config.json` cannot be read.
    """
    if classes is not None:
        return read_labels(classes)
    config = _timm_config(name.removeprefix(TIMM)) if name.startswith(TIMM) else _folder_config(teacher_folder(name))
    return labels_in(config, name)


def teacher_folder(name: str) -> Path:
    """Return the folder of an embedded or a local teacher; UsageError for an unknown name, DataError for a part that is
    missing."""
    if name.startswith(EMBEDDED):
        folder = Path(str(resources.files("edgedistill").joinpath("embedded"))) / name.removeprefix(EMBEDDED)
        if not (folder / "config.json").is_file():
            raise UsageError(f"There is no embedded teacher {name!r}; the one that ships is embedded:glyphs100.")
        return folder
    folder = Path(name.removeprefix("local-dir:"))
    if not folder.is_dir():
        raise UsageError(
            f"The teacher {name!r} is neither timm:NAME nor an existing folder with config.json and model.safetensors."
            " Give one of the two with --teacher."
        )
    for part in ("config.json", "model.safetensors"):
        if not (folder / part).is_file():
            raise DataError(f"The teacher folder {folder} has no {part}; timm's save_for_hf writes both files.")
    return folder


def check_timm_name(name: str) -> None:
    """Refuse a name that timm does not know; the message lists the nearest."""
    import timm

    from edgedistill.models import small_images  # noqa: F401  # enters its model into timm's registry

    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}.{nearest_names(name, timm.list_models())}")


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
        if not is_printable(label):
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


def labels_in(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the labels that timm's record of a model carries, or ImageNet's where their number fits.

    Labels that are synset ids become the words of their classes. UsageError when there are none.
    """
    given = config.get("label_names")
    if isinstance(given, dict):  # timm allows {position: name}
        given = [given[position] for position in sorted(given, key=int)]
    if given:
        labels = tuple(str(each) for each in given)
        known = labels_of_synsets()
        return tuple(known.get(each, each) for each in labels) if all(map(is_synset, labels)) else labels
    labels = _imagenet_labels_for(config["num_classes"])
    if len(labels) != config["num_classes"]:
        raise UsageError(
            f"The teacher {name} carries no labels for its {config['num_classes']} outputs; give them with "
            "--teacher-classes FILE, one a line, in output order."
        )
    return labels


def _imagenet_labels_for(outputs: int) -> tuple[str, ...]:
    if outputs == len(imagenet_labels()):
        return imagenet_labels()
    from timm.data.imagenet_info import infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    return imagenet_labels(subset) if subset is not None else ()


def _timm_config(name: str) -> dict[str, Any]:
    import timm

    check_timm_name(name)
    config: Any = timm.get_pretrained_cfg(name)
    return dict(config.to_dict())


def _folder_config(folder: Path) -> dict[str, Any]:
    """Read what timm reads: the keys of `pretrained_cfg`, under those beside it."""
    path = folder / "config.json"
    with reading(path):
        text = path.read_bytes()
    try:
        whole = json.loads(text)
        config = {**whole, **whole.get("pretrained_cfg", {}), **{key: whole[key] for key in _OVER if key in whole}}
        return {**config, "num_classes": int(config["num_classes"])}
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path} is not the JSON that timm's save_for_hf writes ({error}).") from error
