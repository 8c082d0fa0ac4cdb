"""Refuses ONNX files that reach outside their folder, or claim more than they hold, before anything runs them.

An ONNX tensor can name another file for its data, by any path. Some ONNX Runtimes follow the path out of the folder.
The model's sha256 does not cover that file, and the file can be private. Only a file that a bundle lists beside its
model may hold weights.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.onnx_files.cost import read_cost
from edgedistill_deploy.onnx_files.wire import MOST_AXES, Message, open_message

_SLOWEST_PER_S = 1e10  # multiply-adds; a core of a small board computes so many
_LARGEST_VALUE = 1 << 31  # numbers, 8 GB in float32
_LOOPS = ("Loop", "Scan", "SequenceMap")
_VALUES_PER_BYTE = 4  # the smallest type has two bits
_MOST_DATA_FILES = 10_000  # a bundle cannot list more


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What must be judged in an ONNX file before a runtime loads it.

    `data_files` are the other files that tensors name for their data, not yet judged or opened; "" where one names
    none. `unbounded` is the first loop or tensor without bounds, as the end of a sentence about the file, or None.
    """

    path: Path
    data_files: tuple[str, ...]
    unbounded: str | None


def read_claims(path: Path) -> Claims:
    """Read all claims of an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
    data_files: dict[str, None] = {}
    unbounded = None
    with open_message(path) as model:
        for _, message in model.walk():
            elsewhere = _find_data_files(message) if message.kind == "TensorProto" else []
            if len(data_files) < _MOST_DATA_FILES:
                data_files.update(dict.fromkeys(elsewhere))
            unbounded = unbounded or _find_unbounded(message, bool(elsewhere))
    return Claims(path=path, data_files=tuple(data_files), unbounded=unbounded)


def require_listed_data(claims: Claims, listed: Collection[str]) -> None:
    """Raise BundleError when a tensor's data lies in a file that is not listed.

    `listed` are names of files beside the model, as its tensors must spell them. A path elsewhere never equals one.
    """
    unlisted = next((each for each in claims.data_files if each not in listed), None)
    if unlisted is not None:
        raise BundleError(
            f"{claims.path} keeps weights in another file, {unlisted!r}, which its sha256 does not cover and no bundle "
            "lists beside it; export the model as a single file."
        )


def require_bounded(claims: Claims) -> None:
    """Raise BundleError for loops, whose time has no bound, and for tensors that claim more values than they hold.

    A classifier of images needs no loop. Values that the model makes while it runs are not checked.
    """
    if claims.unbounded is not None:
        raise BundleError(f"{claims.path} {claims.unbounded}; it is refused.")


def require_affordable(path: Path, limit_s: float) -> None:
    """Raise BundleError for a model that one image would keep busy beyond any sensible time, or that fills the memory.

    Only what the file tells is counted; see `read_cost`. `limit_s` is how long one inference may take.
    """
    cost = read_cost(path)
    if cost.multiply_adds > limit_s * _SLOWEST_PER_S:
        raise BundleError(
            f"{path} needs {cost.multiply_adds:.2g} multiply-adds for one image, too many for the {limit_s:g} s that "
            "one inference may take; if it is meant to be so large, give --limit-s a larger number."
        )
    if cost.largest_value > _LARGEST_VALUE:
        raise BundleError(
            f"{path} makes a value of {cost.largest_value:.2g} numbers out of one image, more than the memory of a "
            "device; it is refused."
        )


def _find_data_files(tensor: Message) -> list[str]:
    """Return the files that a tensor names for its data, or [""] where its data lies elsewhere without a name."""
    entries = list(tensor.entries("external_data"))
    names = [value for key, value in entries if key == "location"]
    is_external = bool(entries) or any(tensor.numbers("data_location"))
    return names or [""] * is_external


def _find_unbounded(message: Message, has_data_elsewhere: bool) -> str | None:
    if message.kind == "NodeProto":
        loop = next((each for each in message.texts("op_type") if each in _LOOPS), None)
        return loop and f"holds a {loop}, which may run for ever"
    return _find_excess(message, has_data_elsewhere) if message.kind == "TensorProto" else None


def _find_excess(tensor: Message, has_data_elsewhere: bool) -> str | None:
    """Return what a tensor claims beyond its bytes. A file of data elsewhere is refused, or has a registered size."""
    axes, size = list(islice(tensor.numbers("dims"), MOST_AXES + 1)), tensor.end - tensor.begin
    if len(axes) > MOST_AXES:
        return f"holds a tensor of {len(axes)} axes"
    if math.prod(axes) > _VALUES_PER_BYTE * size and not has_data_elsewhere:
        return f"holds a tensor that claims {math.prod(axes)} values in {size} bytes"
    return None
