"""A look into an ONNX file, by the wire format of protocol buffers alone, before any runtime is let loose on it."""

import contextlib
import mmap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from edgedistill_deploy.errors import EdgeDistillError

# The fields of each message of onnx.proto that lead to tensors.
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # in a tensor
_ENTRY_KEY, _ENTRY_VALUE = 1, 2  # in an entry of a tensor's external data
VARINT, _EIGHT_BYTES, DELIMITED, _FOUR_BYTES = 0, 1, 2, 5  # groups, 3 and 4, are in no ONNX file
_MOST_DATA_FILES = 10_000  # beyond these no name can be among those that a bundle lists
_FIXED_BYTES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

_Field = tuple[int, int, int, int]


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
    children = CHILDREN[kind]
    if kind == "tensor":
        yield from _data_files_of_tensor(data, start, end)
    for number, wire, begin, stop in read_fields(data, start, end):
        if wire == DELIMITED and number in children:
            yield from _data_files(data, children[number], begin, stop)


def _data_files_of_tensor(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    is_external, names = False, []
    for number, wire, begin, stop in read_fields(data, start, end):
        if number == DATA_LOCATION and wire == VARINT:
            is_external = is_external or read_varint(data, begin)[0] != 0
        elif number in (EXTERNAL_DATA, DATA_LOCATION):
            is_external = True
            texts = {
                field: data[first:last].decode(errors="replace")
                for field, kind, first, last in (read_fields(data, begin, stop) if wire == DELIMITED else ())
                if kind == DELIMITED
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
        if wire == VARINT:
            place = read_varint(data, begin)[1]
        elif wire == DELIMITED:
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
