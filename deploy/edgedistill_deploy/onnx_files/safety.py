"""ONNX files that reach outside their folder, or claim more than they hold, are refused before anything runs them.

An ONNX tensor may name another file for its data, by any path; some ONNX Runtimes follow it out of the folder. What a bundle
promises by a model's sha256 would then hang on a file that is not covered, or read one that is none of its business. Only a file
that a bundle lists beside its model may hold weights.
"""

import math
import mmap
from collections.abc import Collection, Iterator
from pathlib import Path

from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.onnx_files.wire import (
    CHILDREN,
    DATA_LOCATION,
    DELIMITED,
    EXTERNAL_DATA,
    VARINT,
    data_files,
    onnx_bytes,
    read_fields,
    read_varint,
    read_varints,
)

_OPERATOR, _DIMS = 4, 1  # in a node, in a tensor
_LOOPS = ("Loop", "Scan", "SequenceMap")
_MOST_AXES = 32
_VALUES_PER_BYTE = 4  # the smallest type has two bits


def require_self_contained(path: Path) -> None:
    """Raise BundleError when a tensor's data lies in another file, EdgeDistillError when the file is no ONNX model."""
    require_listed_data(path, ())


def require_listed_data(path: Path, listed: Collection[str]) -> None:
    """Raise BundleError when a tensor's data lies in a file that is not listed, EdgeDistillError when this is no ONNX model.

    Args:
        path: the ONNX file.
        listed: names of files beside it, as the tensors must spell them; a path that leads elsewhere is never equal to one.
    """
    unlisted = next((each for each in data_files(path) if each not in listed), None)
    if unlisted is not None:
        raise BundleError(
            f"{path} keeps weights in another file, {unlisted!r}, which its sha256 does not cover and no bundle lists beside it; "
            "export the model as a single file."
        )


def require_bounded(path: Path) -> None:
    """Raise BundleError for loops, whose time nobody can tell before, and for tensors that claim more values than they hold.

    A classifier of images needs no loop. Values that are made while the model runs are not looked at. Raises EdgeDistillError when
    this is no ONNX model.
    """
    with onnx_bytes(path) as data:
        problem = next(_unbounded(data, "model", 0, len(data)), None)
    if problem is not None:
        raise BundleError(f"{path} {problem}; it is refused.")


def _unbounded(data: mmap.mmap, kind: str, start: int, end: int) -> Iterator[str]:
    """Yield what is unbounded in a message and those inside it, as the end of a sentence about the file."""
    children, axes, elsewhere = CHILDREN[kind], list[int](), False
    for number, wire, begin, stop in read_fields(data, start, end):
        if kind == "node" and number == _OPERATOR and data[begin:stop].decode() in _LOOPS:
            yield f"holds a {data[begin:stop].decode()}, which may run for ever"
        elif kind == "tensor" and number == _DIMS and len(axes) <= _MOST_AXES:
            axes += [read_varint(data, begin)[0]] if wire == VARINT else read_varints(data, begin, stop)
        elif kind == "tensor" and number in (EXTERNAL_DATA, DATA_LOCATION):
            elsewhere = True  # in a file that is refused, or whose size is registered
        elif wire == DELIMITED and number in children:
            yield from _unbounded(data, children[number], begin, stop)
    if len(axes) > _MOST_AXES:
        yield f"holds a tensor of {len(axes)} axes"
    elif math.prod(axes) > _VALUES_PER_BYTE * (end - start) and not elsewhere:
        yield f"holds a tensor that claims {math.prod(axes)} values in {end - start} bytes"
