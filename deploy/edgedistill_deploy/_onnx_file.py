"""A look into an ONNX file, by the wire format of protocol buffers alone, before any runtime is let loose on it.

An ONNX tensor may name another file for its data, by any path; some ONNX Runtimes follow it out of the folder. What a bundle
promises by a model's sha256 would then hang on a file that is not covered, or read one that is none of its business. Only a file
that a bundle lists beside its model may hold weights.
"""

import contextlib
import math
import mmap
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

from edgedistill_deploy.errors import BundleError, EdgeDistillError

# The fields of each message of onnx.proto that lead to tensors.
_CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # in a tensor
_ENTRY_KEY, _ENTRY_VALUE = 1, 2  # in an entry of a tensor's external data
_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5  # groups, 3 and 4, are in no ONNX file
_OPERATOR, _DIMS = 4, 1  # in a node, in a tensor
_LOOPS = ("Loop", "Scan", "SequenceMap")
_MOST_AXES = 32
_VALUES_PER_BYTE = 4  # the smallest type has two bits
_MOST_DATA_FILES = 10_000  # beyond these no name can be among those that a bundle lists
_FIXED_BYTES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

_Field = tuple[int, int, int, int]


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
    children, axes, elsewhere = _CHILDREN[kind], list[int](), False
    for number, wire, begin, stop in read_fields(data, start, end):
        if kind == "node" and number == _OPERATOR and data[begin:stop].decode() in _LOOPS:
            yield f"holds a {data[begin:stop].decode()}, which may run for ever"
        elif kind == "tensor" and number == _DIMS and len(axes) <= _MOST_AXES:
            axes += [read_varint(data, begin)[0]] if wire == _VARINT else read_varints(data, begin, stop)
        elif kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
            elsewhere = True  # in a file that is refused, or whose size is registered
        elif wire == _DELIMITED and number in children:
            yield from _unbounded(data, children[number], begin, stop)
    if len(axes) > _MOST_AXES:
        yield f"holds a tensor of {len(axes)} axes"
    elif math.prod(axes) > _VALUES_PER_BYTE * (end - start) and not elsewhere:
        yield f"holds a tensor that claims {math.prod(axes)} values in {end - start} bytes"


def data_files(path: Path) -> list[str]:
    """Return the other files that an ONNX file names for its tensors' data, unjudged and unopened; "" where it names none.

    Raises EdgeDistillError when this is no ONNX model.
    """
    with onnx_bytes(path) as data:
        return list(dict.fromkeys(islice(_data_files(data, "model", 0, len(data)), _MOST_DATA_FILES)))


@contextlib.contextmanager
def onnx_bytes(path: Path) -> Iterator[mmap.mmap]:
    """Yield the bytes of an ONNX file, of which only those that are looked at are read.

    Raises EdgeDistillError naming the file when it cannot be opened, or when the block finds that it is no ONNX model.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data
    except (OSError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise EdgeDistillError(
            f"{path} cannot be read as an ONNX model: {error}; rebuild or restore the file."
        ) from error


def _data_files(data: mmap.mmap, kind: str, start: int, end: int) -> Iterator[str]:
    """Yield the names of other files that tensors give for their data, "" where one gives none."""
    children = _CHILDREN[kind]
    if kind == "tensor":
        yield from _data_files_of_tensor(data, start, end)
    for number, wire, begin, stop in read_fields(data, start, end):
        if wire == _DELIMITED and number in children:
            yield from _data_files(data, children[number], begin, stop)


def _data_files_of_tensor(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    is_external, names = False, []
    for number, wire, begin, stop in read_fields(data, start, end):
        if number == _DATA_LOCATION and wire == _VARINT:
            is_external = is_external or read_varint(data, begin)[0] != 0
        elif number in (_EXTERNAL_DATA, _DATA_LOCATION):
            is_external = True
            texts = {
                field: data[first:last].decode(errors="replace")
                for field, kind, first, last in (read_fields(data, begin, stop) if wire == _DELIMITED else ())
                if kind == _DELIMITED
            }
            if texts.get(_ENTRY_KEY) == "location":
                names.append(texts.get(_ENTRY_VALUE, ""))
    if is_external:
        yield from names or [""]


def read_fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """Yield (field number, wire type, begin, end) of each field's value."""
    place = start
    while place < end:
        tag, begin = read_varint(data, place)
        wire = tag & 7
        if wire == _VARINT:
            place = read_varint(data, begin)[1]
        elif wire == _DELIMITED:
            size, begin = read_varint(data, begin)
            place = begin + size
        elif wire in _FIXED_BYTES:
            place = begin + _FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {begin - 1}")
        if place > end:
            raise ValueError(f"a value at byte {begin} runs beyond its message")
        yield tag >> 3, wire, begin, place


def read_varints(data: mmap.mmap, begin: int, stop: int) -> list[int]:
    """Return the numbers that are packed between two places."""
    values = []
    while begin < stop:
        value, begin = read_varint(data, begin)
        values.append(value)
    return values


def read_varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return the number at a place, seven bits a byte, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number of more than ten bytes before byte {place}")
