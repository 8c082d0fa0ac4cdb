"""Shortcuts of residual networks, and values on a symmetric grid."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedistill_calibration.ranges.measurement import Range


def shortcuts(graph: onnx.GraphProto) -> list[str]:
    """Return the shorter branch's output of every Add that joins two Convs, in residual blocks that change shape.

    TensorRT fuses Conv + Add + ReLU when the other input of the Add is quantised, but ONNX Runtime's quantiser leaves
    such a branch in float.
    """
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in node.input)
    found = []
    for node in graph.node:
        joined = [makers[name] for name in node.input if name in makers] if node.op_type == "Add" else []
        if len(joined) == 2 and all(maker.op_type == "Conv" for maker in joined):
            lengths = [_branch_length(maker, makers, readers) for maker in joined]
            found.append(joined[0 if lengths[0] < lengths[1] else 1].output[0])
    return found


def _branch_length(node: onnx.NodeProto, makers: Mapping[str, onnx.NodeProto], readers: Mapping[str, int]) -> int:
    """Count the nodes from `node` back to the start of its branch."""
    length = 1
    while readers[node.input[0]] == 1 and node.input[0] in makers:
        node = makers[node.input[0]]
        length += 1
    return length


def quantise_values(model: onnx.ModelProto, names: Sequence[str], ranges: Mapping[str, Range]) -> None:
    """Put symmetric INT8 Q/DQ between each of these values and the Adds that read it in float."""
    graph = model.graph
    nodes = list(graph.node)
    read = {name for node in nodes if node.op_type == "Add" for name in node.input}
    renamed = {name: f"{name}_shortcut" for name in names if name in read}
    del graph.node[:]
    for node in nodes:
        for place, name in enumerate(node.input):
            if node.op_type == "Add" and name in renamed:
                node.input[place] = renamed[name]
        graph.node.append(node)
        for name in (name for name in node.output if name in renamed):
            graph.node.extend(_quantise_symmetric(graph, name, renamed[name], ranges[name]))


def _quantise_symmetric(graph: onnx.GraphProto, name: str, result: str, bounds: Range) -> Iterator[onnx.NodeProto]:
    scale = np.float32(max(abs(bounds[0]), abs(bounds[1])) / 127 or 1)
    parameters = [f"{result}_scale", f"{result}_zero_point"]
    for parameter, value in zip(parameters, (scale, np.int8(0)), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.array(value), parameter))
    pair = (("QuantizeLinear", name, f"{result}_int8"), ("DequantizeLinear", f"{result}_int8", result))
    for kind, given, made in pair:
        yield helper.make_node(kind, [given, *parameters], [made], name=f"{result}_{kind}")
