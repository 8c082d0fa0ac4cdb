"""ONNX files that reach outside their folder, or claim more than they hold, are refused before anything runs them.

An ONNX tensor may name another file for its data, by any path; some ONNX Runtimes follow it out of the folder. What a
bundle promises by a model's sha256 would then depend on a file that is not covered, or read one that is none of its
business. Only a file that a bundle lists beside its model may hold weights.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.onnx_files.wire import MOST_AXES, Message, open_message

_LOOPS = ("Loop", "Scan", "SequenceMap")
_VALUES_PER_BYTE = 4  # the smallest type has two bits
_MOST_DATA_FILES = 10_000  # beyond these no name can be among those that a bundle lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What an ONNX file says that must be judged before a runtime sees it.

    `data_files` are the other files that tensors name for their data, unjudged and unopened, "" where one names none.
    `unbounded` is the first loop or tensor without bounds, as the end of a sentence about the file, or None.
    """

    path: Path
    data_files: tuple[str, ...]
    unbounded: str | None


def read_claims(path: Path) -> Claims:
    """Walk once through an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
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

    `listed` are names of files beside the model, as its tensors must spell them; a path that leads elsewhere is never
    equal to one.
    """
    unlisted = next((each for each in claims.data_files if each not in listed), None)
    if unlisted is not None:
        raise BundleError(
            f"{claims.path} keeps weights in another file, {unlisted!r}, which its sha256 does not cover and no bundle "
            "lists beside it; export the model as a single file."
        )


def require_bounded(claims: Claims) -> None:
    """Raise BundleError for loops, whose time nobody can tell before, and for tensors that claim more values than they
    hold.

    A classifier of images needs no loop. Values that are made while the model runs are not looked at.
    """
    if claims.unbounded is not None:
        raise BundleError(f"{claims.path} {claims.unbounded}; it is refused.")


def _find_data_files(tensor: Message) -> list[str]:
    """Return the names of other files that a tensor gives for its data, [""] where it gives none but its data lies
    elsewhere."""
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
    """Return what a tensor claims beyond its bytes; data elsewhere lies in a file that is refused, or whose size is
    registered."""
    axes = list(islice(tensor.numbers("dims"), MOST_AXES + 1))
    size = tensor.end - tensor.begin
    if len(axes) > MOST_AXES:
        return f"holds a tensor of {len(axes)} axes"
    if math.prod(axes) > _VALUES_PER_BYTE * size and not has_data_elsewhere:
        return f"holds a tensor that claims {math.prod(axes)} values in {size} bytes"
    return None
