"""The nodes of an ONNX file and the values between them, read and extended without the onnx library.

Protocol buffers join two messages that follow each other: repeated fields are concatenated. So a few bytes appended to
the file make an inner value an output, and a device needs only its runtime to see that value.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgedistill_deploy.files.writing import write_bytes
from edgedistill_deploy.onnx_files.wire import Message, encode_field, open_message


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, with the values that it and its inner graphs read, and the values that it makes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """The nodes of a model in stored order; ONNX demands that they can run in this order."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    initializers: frozenset[str]

    @cached_property
    def makers(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs if value}


def read_graph(path: Path) -> Graph:
    """Read the graph of an ONNX file. Raises EdgeDistillError when it is no ONNX model."""
    found: defaultdict[str, list[Message]] = defaultdict(list)
    with open_message(path) as model:
        for place, message in model.walk():
            if len(place) == 2 and place[0] == "graph":
                found[place[1]].append(message)
        return Graph(
            nodes=tuple(map(_read_node, found["node"])),
            inputs=_read_names(found["input"]),
            outputs=_read_names(found["output"]),
            initializers=frozenset(_read_names(found["initializer"])),
        )


def write_with_outputs(source: Path, path: Path, values: Sequence[str]) -> None:
    """Write a copy of a model that also gives these inner values, after its own outputs."""
    names = (encode_field("ValueInfoProto", "name", value.encode()) for value in values)
    added = b"".join(encode_field("GraphProto", "output", name) for name in names)
    write_bytes(path, source.read_bytes() + encode_field("ModelProto", "graph", added))


def _read_names(messages: Iterable[Message]) -> tuple[str, ...]:
    return tuple(name for message in messages for name in message.texts("name"))


def _read_node(node: Message) -> Node:
    """Read a node; its inputs include what the nodes in its branches and loops read."""
    nodes = (message for _, message in node.walk() if message.kind == node.kind)
    return Node(
        name="".join(node.texts("name")),
        operator="".join(node.texts("op_type")),
        inputs=tuple(value for each in nodes for value in each.texts("input")),
        outputs=tuple(node.texts("output")),
    )
