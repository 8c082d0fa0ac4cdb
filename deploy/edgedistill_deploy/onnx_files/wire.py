"""Reads an ONNX file by the wire format of protocol buffers, before any runtime loads it.

Only this module knows the numbers of the fields; other modules use the names of onnx.proto.
"""

import contextlib
import functools
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedistill_deploy.errors import EdgeDistillError

# The messages of onnx.proto, with the name of each field that is read and the kind of message in it, if any.
FIELDS: dict[str, dict[int, tuple[str, str | None]]] = {
    "ModelProto": {
        1: ("ir_version", None),
        7: ("graph", "GraphProto"),
        8: ("opset_import", "OperatorSetIdProto"),
        14: ("metadata_props", "StringStringEntryProto"),
        20: ("training_info", "TrainingInfoProto"),
        25: ("functions", "FunctionProto"),
    },
    "OperatorSetIdProto": {1: ("domain", None), 2: ("version", None)},
    "TrainingInfoProto": {1: ("initialization", "GraphProto"), 2: ("algorithm", "GraphProto")},
    "FunctionProto": {7: ("node", "NodeProto"), 11: ("attribute_proto", "AttributeProto")},
    "GraphProto": {
        1: ("node", "NodeProto"),
        5: ("initializer", "TensorProto"),
        11: ("input", "ValueInfoProto"),
        12: ("output", "ValueInfoProto"),
        15: ("sparse_initializer", "SparseTensorProto"),
    },
    "NodeProto": {
        1: ("input", None),
        2: ("output", None),
        3: ("name", None),
        4: ("op_type", None),
        5: ("attribute", "AttributeProto"),
    },
    "AttributeProto": {
        1: ("name", None),
        3: ("i", None),
        4: ("s", None),
        5: ("t", "TensorProto"),
        6: ("g", "GraphProto"),
        8: ("ints", None),
        10: ("tensors", "TensorProto"),
        11: ("graphs", "GraphProto"),
        22: ("sparse_tensor", "SparseTensorProto"),
        23: ("sparse_tensors", "SparseTensorProto"),
    },
    "SparseTensorProto": {1: ("values", "TensorProto"), 2: ("indices", "TensorProto")},
    "TensorProto": {
        1: ("dims", None),
        2: ("data_type", None),
        4: ("float_data", None),
        5: ("int32_data", None),
        7: ("int64_data", None),
        8: ("name", None),
        9: ("raw_data", None),
        10: ("double_data", None),
        13: ("external_data", "StringStringEntryProto"),
        14: ("data_location", None),
    },
    "StringStringEntryProto": {1: ("key", None), 2: ("value", None)},
    "ValueInfoProto": {1: ("name", None), 2: ("type", "TypeProto")},
    "TypeProto": {1: ("tensor_type", "TypeProto.Tensor")},
    "TypeProto.Tensor": {2: ("shape", "TensorShapeProto")},
    "TensorShapeProto": {1: ("dim", "TensorShapeProto.Dimension")},
    "TensorShapeProto.Dimension": {1: ("dim_value", None)},
}
MOST_AXES = 32  # of a tensor; every numpy can hold this many
_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5  # groups, 3 and 4, are in no ONNX file
_FIXED_BYTES = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}

Place = tuple[str, ...]
_Field = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of an ONNX file: its kind, a key of `FIELDS`, and where its bytes begin and end."""

    kind: str
    data: mmap.mmap
    begin: int
    end: int

    def walk(self, place: Place = ()) -> Iterator[tuple[Place, "Message"]]:
        """Yield this message and all inside it in file order, each with the names of the fields that lead to it."""
        yield place, self
        fields = FIELDS[self.kind]
        for number, wire, begin, end in _read_fields(self.data, self.begin, self.end):
            name, inner = fields.get(number, ("", None))
            if inner is not None and wire == _DELIMITED:
                yield from Message(inner, self.data, begin, end).walk((*place, name))

    def contents(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of each field of this name."""
        return (self.data[begin:end] for wire, begin, end in self._find(name) if wire == _DELIMITED)

    def texts(self, name: str) -> Iterator[str]:
        """Yield the text of each field of this name."""
        return (content.decode() for content in self.contents(name))

    def numbers(self, name: str) -> Iterator[int]:
        """Yield the whole numbers of each field of this name, which holds one or several."""
        for wire, begin, end in self._find(name):
            place = begin
            while place < end and wire in (_VARINT, _DELIMITED):
                value, place = _read_varint(self.data, place)
                yield value

    def entries(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the key and the value of each field of this name; bytes that are no text are replaced."""
        for wire, begin, end in self._find(name):
            entry = Message("StringStringEntryProto", self.data, begin, end if wire == _DELIMITED else begin)
            yield entry._read_last("key"), entry._read_last("value")

    def _read_last(self, name: str) -> str:
        return b"".join([*self.contents(name)][-1:]).decode(errors="replace")

    def _find(self, wanted: str) -> Iterator[tuple[int, int, int]]:
        number = _find_number(self.kind, wanted)
        for found, wire, begin, end in _read_fields(self.data, self.begin, self.end):
            if found == number:
                yield wire, begin, end


@contextlib.contextmanager
def open_message(path: Path) -> Iterator[Message]:
    """Yield the model in an ONNX file. Only the bytes that are used are read.

    Raises EdgeDistillError naming the file when it cannot be opened, or when the block finds that it is no ONNX model.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield Message("ModelProto", data, 0, len(data))
    except (OSError, ValueError, IndexError, OverflowError, RecursionError) as error:
        raise EdgeDistillError(
            f"{path} cannot be read as an ONNX model: {error}; rebuild or restore the file."
        ) from error


def encode_field(kind: str, name: str, content: bytes) -> bytes:
    """Return the bytes of a field whose value is text or a message."""
    return _encode_varint(_find_number(kind, name) << 3 | _DELIMITED) + _encode_varint(len(content)) + content


@functools.cache
def _find_number(kind: str, name: str) -> int:
    return next(number for number, (each, _) in FIELDS[kind].items() if each == name)


def _read_fields(data: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    """Yield (field number, wire type, begin, end) of each field's value."""
    place = start
    while place < end:
        tag, begin = _read_varint(data, place)
        wire = tag & 7
        if wire == _VARINT:
            place = _read_varint(data, begin)[1]
        elif wire == _DELIMITED:
            size, begin = _read_varint(data, begin)
            place = begin + size
        elif wire in _FIXED_BYTES:
            place = begin + _FIXED_BYTES[wire]
        else:
            raise ValueError(f"wire type {wire} at byte {begin - 1}")
        if place > end:
            raise ValueError(f"a value at byte {begin} runs beyond its message")
        yield tag >> 3, wire, begin, place


def _read_varint(data: mmap.mmap, place: int) -> tuple[int, int]:
    """Return the number at a place, stored in seven bits a byte, and the place after it."""
    value = data[place]
    place += 1
    if value < 0x80:  # nearly all numbers: those of fields, and the sizes of what is short
        return value, place
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"a number of more than ten bytes before byte {place}")


def _encode_varint(value: int) -> bytes:
    """Return a number in seven bits a byte, the lowest bits first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
