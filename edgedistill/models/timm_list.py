"""The list of timm's models that ships in `timm.json`: it tells names and sizes without timm and torch."""

import functools
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgedistill_deploy.errors import UsageError, nearest_names


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """An architecture: its number of parameters, and the side of its images in pixels.

    `outputs` are those of its pretrained weights, by tag, the default tag first; 0 where these end before the logits.
    """

    parameters: int
    size: int
    outputs: Mapping[str, int]


def listed_version() -> str:
    """Return the version of timm that the list was made from."""
    return str(_read_list()["timm"])


def is_listed(name: str) -> bool:
    """Tell whether the list has a model, and the weights where the name says which ("resnet50.a1_in1k")."""
    stem, _, tag = _current(name).partition(".")
    model = find_listed(stem)
    return model is not None and (not tag or tag in model.outputs)


def find_listed(name: str) -> ListedModel | None:
    """Return what the list says of an architecture, None where it has none of this name."""
    found = _read_list()["models"].get(_current(name).partition(".")[0])
    if found is None:
        return None
    return ListedModel(parameters=found["parameters"], size=found["size"], outputs=found["tags"])


def listed_outputs(name: str) -> int | None:
    """Return the number of outputs with the pretrained weights of the name, None where the list does not know it."""
    model, tag = find_listed(name), _current(name).partition(".")[2]
    return None if model is None or not model.outputs else model.outputs.get(tag or next(iter(model.outputs)))


def listed_repository(name: str) -> str:
    """Return OWNER/NAME of the pretrained weights on the hub; empty where the list has none, or has them elsewhere."""
    model, (stem, _, tag) = find_listed(name), _current(name).partition(".")
    if model is None or not model.outputs:
        return ""
    whole = f"{stem}.{tag or next(iter(model.outputs))}"
    return str(_read_list()["elsewhere"].get(whole, f"timm/{whole}"))


def installed_version() -> str | None:
    """Return the version of timm on this machine, None where there is none."""
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        return None


def refuse_unlisted(name: str) -> None:
    """Raise UsageError for a name that the list does not have; the message lists the nearest."""
    if is_listed(name):
        return
    stem, _, tag = name.partition(".")
    model = find_listed(stem)
    if model is not None:
        raise UsageError(f"timm has no weights {tag!r} of the model {stem!r}.{nearest_names(tag, model.outputs)}")
    raise UsageError(f"timm has no model {name!r}.{nearest_names(name, _read_list()['models'])}")


def _current(name: str) -> str:
    """Return the present name of a model that timm renamed."""
    return str(_read_list()["renamed"].get(name, name))


@functools.cache
def _read_list() -> dict[str, Any]:
    file = resources.files("edgedistill.models").joinpath("timm.json")
    return dict(json.loads(file.read_text(encoding="utf-8")))
