"""What an ONNX file carries besides its graph, read without the onnx library: its metadata and its weights."""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.wire import data_files, onnx_bytes, read_fields, read_varint, read_varints

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NUMBERS, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 5, 8, 9
_VARINT, _DELIMITED = 0, 2
_MOST_AXES = 32  # what every numpy can hold

# TensorProto.DataType to what numpy calls it, and the field that holds the values where they are not raw.
_DTYPES: dict[int, tuple[str, int | None]] = {
    1: ("<f4", 4),
    2: ("u1", _TENSOR_NUMBERS),
    3: ("i1", _TENSOR_NUMBERS),
    6: ("<i4", _TENSOR_NUMBERS),
    7: ("<i8", None),
    10: ("<f2", None),
    11: ("<f8", 10),
}

_Span = tuple[int, int]


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
    data_files(path)  # is it an ONNX model at all
    with onnx_bytes(path) as data:
        entries = [_entry(data, span) for span in _children(data, (0, len(data)), _MODEL_METADATA)]
    return {str(entry.get(_ENTRY_KEY, "")): str(entry.get(_ENTRY_VALUE, "")) for entry in entries}


def read_weights(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the name and values of each initializer whose numbers numpy knows, in the order of the file.

    Raises EdgeDistillError when the file is no ONNX model or a tensor holds less than its shape says.
    """
    data_files(path)  # is it an ONNX model at all
    with onnx_bytes(path) as data:
        for graph in _children(data, (0, len(data)), _MODEL_GRAPH):
            for span in _children(data, graph, _GRAPH_INITIALIZER):
                name, values = _tensor(data, span)
                if values is None:
                    continue
                yield name, _checked(path, name, *values)


def _checked(path: Path, name: str, shape: tuple[int, ...], flat: NDArray[Any]) -> NDArray[Any]:
    if math.prod(shape) != flat.size:
        raise EdgeDistillError(
            f"{path} is damaged: the weight {name} holds {flat.size} numbers, but its shape {shape} needs {math.prod(shape)}."
        )
    return flat.reshape(shape)


def _tensor(data: mmap.mmap, span: _Span) -> tuple[str, tuple[tuple[int, ...], NDArray[Any]] | None]:
    """Return a tensor's name, shape and flat values; the latter None for kinds that are not read here."""
    shape: list[int] = []
    kind, name = 0, ""
    content: dict[int, _Span] = {}
    for number, wire, begin, stop in read_fields(data, *span):
        if number == _TENSOR_DIMS:
            shape += [read_varint(data, begin)[0]] if wire == _VARINT else read_varints(data, begin, stop)
        elif number == _TENSOR_TYPE:
            kind = read_varint(data, begin)[0]
        elif number == _TENSOR_NAME:
            name = data[begin:stop].decode()
        elif wire == _DELIMITED:
            content[number] = (begin, stop)
    if len(shape) > _MOST_AXES:
        raise ValueError(f"the weight {name[:60]!r} has {len(shape)} axes")
    dtype, packed = _DTYPES.get(kind, (None, None))
    place = content.get(_TENSOR_RAW) or (content.get(packed) if packed else None)
    if dtype is None or place is None:
        return name, None
    if packed == _TENSOR_NUMBERS and _TENSOR_RAW not in content:
        # Each as a number of its own, a negative one by its complement to 2^64.
        spelt = np.array(read_varints(data, *place), dtype=np.uint64)
        return name, (tuple(shape), spelt.astype(np.dtype(dtype)))
    whole = (place[1] - place[0]) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize
    return name, (tuple(shape), np.frombuffer(data[place[0] : place[0] + whole], dtype))


def _entry(data: mmap.mmap, span: _Span) -> dict[int, str]:
    return {
        number: data[begin:stop].decode("utf-8", errors="replace")
        for number, wire, begin, stop in read_fields(data, *span)
        if wire == _DELIMITED
    }


def _children(data: mmap.mmap, span: _Span, wanted: int) -> Iterator[_Span]:
    for number, wire, begin, stop in read_fields(data, *span):
        if wire == _DELIMITED and number == wanted:
            yield begin, stop
