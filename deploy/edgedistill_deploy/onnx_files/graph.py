"""The nodes of an ONNX file and the values between them, read and made readable without the onnx library.

Protocol buffers join two messages that are written one after the other: fields that repeat are concatenated. So a value inside
the graph becomes an output by appending a few bytes to the file, and a device needs nothing but its runtime to look inside.
"""

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgedistill_deploy.files.writing import written_whole
from edgedistill_deploy.onnx_files.wire import data_files, onnx_bytes, read_fields

# Field numbers of onnx.proto.
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 3, 4, 5
_ATTRIBUTE_GRAPHS = (6, 11)
_TENSOR_NAME, _VALUE_NAME = 8, 1
_DELIMITED = 2

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node: the values it reads, those of the graphs inside it among them, and the values it makes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The nodes of a model in the order they are stored, which ONNX demands to be one they can run in."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: frozenset[str]

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs if value}


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file.

    Raises EdgeDistillError when it is no ONNX model.
    """
    data_files(path)  # is it an ONNX model at all
    with onnx_bytes(path) as data:
        return _graph(data, list(_children(data, (0, len(data)), (_MODEL_GRAPH,))))


def write_with_outputs(source: Path, path: Path, values: Sequence[str]) -> None:
    """Write a copy of a model that gives these inner values too, after its own outputs."""
    added = b"".join(_message(_GRAPH_OUTPUT, _message(_VALUE_NAME, name.encode())) for name in values)
    with written_whole(path) as temporary:
        temporary.write_bytes(source.read_bytes() + _message(_MODEL_GRAPH, added))


def _graph(data: mmap.mmap, spans: Sequence[_Span]) -> Graph:
    def named(field: int, name_field: int) -> tuple[str, ...]:
        messages = (message for span in spans for message in _children(data, span, (field,)))
        return tuple(name for message in messages for name in _texts(data, message, name_field))

    return Graph(
        nodes=tuple(_node(data, node) for span in spans for node in _children(data, span, (_GRAPH_NODE,))),
        inputs=named(_GRAPH_INPUT, _VALUE_NAME),
        outputs=named(_GRAPH_OUTPUT, _VALUE_NAME),
        initializers=frozenset(named(_GRAPH_INITIALIZER, _TENSOR_NAME)),
    )


def _node(data: mmap.mmap, span: _Span) -> Node:
    return Node(
        name="".join(_texts(data, span, _NODE_NAME)),
        operator="".join(_texts(data, span, _NODE_OPERATOR)),
        inputs=tuple(_read_values(data, span)),
        outputs=tuple(_texts(data, span, _NODE_OUTPUT)),
    )


def _read_values(data: mmap.mmap, span: _Span) -> Iterator[str]:
    """Yield the inputs of a node and, since they may read values from outside, of the nodes in its branches and loops."""
    yield from _texts(data, span, _NODE_INPUT)
    for attribute in _children(data, span, (_NODE_ATTRIBUTE,)):
        for graph in _children(data, attribute, _ATTRIBUTE_GRAPHS):
            for node in _children(data, graph, (_GRAPH_NODE,)):
                yield from _read_values(data, node)


def _children(data: mmap.mmap, span: _Span, numbers: Sequence[int]) -> Iterator[_Span]:
    for number, wire, begin, stop in read_fields(data, *span):
        if wire == _DELIMITED and number in numbers:
            yield begin, stop


def _texts(data: mmap.mmap, span: _Span, number: int) -> Iterator[str]:
    return (data[begin:stop].decode() for begin, stop in _children(data, span, (number,)))


def _message(number: int, content: bytes) -> bytes:
    """Return a field whose value is text or a message, as it stands on the wire."""
    return _varint(number << 3 | _DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Write a number seven bits a byte, the lowest first."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
