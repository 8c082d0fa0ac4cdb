"""Rewrites a graph so that chosen nodes compute in float16.

A value keeps its name where it is float32 and gets a second name where it is float16, with one Cast between the two for
all readers. Values that are float32 on both sides never pass through float16. Graph outputs, subgraphs and functions
read the same names as before.
"""

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.float16._types import Movable, casts_to_float


def float_constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the float32 initializers that are no graph inputs, which a caller could replace."""
    replaceable = {each.name for each in graph.input}
    return {
        each.name: each
        for each in graph.initializer
        if each.data_type == TensorProto.FLOAT and each.name not in replaceable
    }


def lift_constants(model: onnx.ModelProto) -> None:
    """Turn the main graph's float32 Constant nodes into initializers, where the IR version allows it."""
    if model.ir_version < 4:  # there an initializer must be a graph input too
        return
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        tensor = _constant_tensor(node)
        if tensor is None:
            model.graph.node.append(node)
        else:
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)


def cast_graph(model: onnx.ModelProto, moved: Mapping[int, Movable]) -> dict[str, str]:
    """Let the nodes at these places of the main graph compute in float16; no other node changes.

    Returns:
        {name of a float16 value: name of the float32 value it stands for}.
    """
    graph = model.graph
    nodes = list(graph.node)
    half_read = {nodes[place].input[each] for place, how in moved.items() for each in how.inputs}
    half_made = {nodes[place].output[each] for place, how in moved.items() for each in how.outputs}
    float_read = _names_read_in_float(graph, moved)
    half = _new_names(graph, half_read | half_made)
    _convert_constants(graph, half_read, float_read, half)
    constants = set(float_constants(graph))
    del graph.node[:]
    del graph.value_info[:]  # the old types
    sources = dict.fromkeys(each.name for each in (*graph.input, *graph.initializer))
    graph.node.extend(_cast(name, half[name], True) for name in sources if name in half_read - constants)
    for place, node in enumerate(nodes):
        given = [name for name in node.output if name]
        if place in moved:
            _rename(node, moved[place], half)
        graph.node.append(node)
        for name in given:
            if name in half_made and name in float_read:
                graph.node.append(_cast(half[name], name, False))
            elif name in half_read and name not in half_made:
                graph.node.append(_cast(name, half[name], True))
    return {new: name for name, new in half.items()}


def _constant_tensor(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    (attribute,) = node.attribute
    if attribute.name == "value" and attribute.t.data_type == TensorProto.FLOAT:
        lifted: onnx.TensorProto = copy.deepcopy(attribute.t)
        return lifted
    if attribute.name == "value_float":
        return numpy_helper.from_array(np.array(attribute.f, np.float32))
    if attribute.name == "value_floats":
        return numpy_helper.from_array(np.array(attribute.floats, np.float32))
    return None


def _names_read_in_float(graph: onnx.GraphProto, moved: Mapping[int, Movable]) -> set[str]:
    names = {each.name for each in graph.output}
    for place, node in enumerate(graph.node):
        inputs = moved[place].inputs if place in moved else frozenset[int]()
        names.update(name for each, name in enumerate(node.input) if each not in inputs)
        names.update(names_in_subgraphs(node))
    return names


def names_in_subgraphs(node: onnx.NodeProto) -> Iterator[str]:
    """Yield every name in the graphs inside a node, also names of the graph around them."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (each.name for each in (*graph.input, *graph.output, *graph.initializer))
            for inner in graph.node:
                yield from (*inner.input, *inner.output)
                yield from names_in_subgraphs(inner)


def _new_names(graph: onnx.GraphProto, names: set[str]) -> dict[str, str]:
    taken = {each.name for each in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        taken.update((*node.input, *node.output, *names_in_subgraphs(node)))
    new = {}
    for name in sorted(names):
        new[name] = f"{name}_float16"
        while new[name] in taken:
            new[name] += "_"
        taken.add(new[name])
    return new


def _convert_constants(
    graph: onnx.GraphProto, half_read: set[str], float_read: set[str], half: Mapping[str, str]
) -> None:
    """Give float16 readers of a constant a copy of their own, and drop constants without other readers."""
    constants = float_constants(graph)
    copies = [
        numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), half[name])
        for name, tensor in constants.items()
        if name in half_read
    ]
    dropped = {name for name in constants if name in half_read and name not in float_read}
    kept = [each for each in graph.initializer if each.name not in dropped]
    del graph.initializer[:]
    graph.initializer.extend([*kept, *copies])


def _rename(node: onnx.NodeProto, how: Movable, half: Mapping[str, str]) -> None:
    if casts_to_float(node):
        next(each for each in node.attribute if each.name == "to").i = TensorProto.FLOAT16
    for place in how.inputs:
        node.input[place] = half[node.input[place]]
    for place in how.outputs:
        node.output[place] = half[node.output[place]]


def _cast(name: str, result: str, to_half: bool) -> onnx.NodeProto:
    kind = TensorProto.FLOAT16 if to_half else TensorProto.FLOAT
    return helper.make_node("Cast", [name], [result], name=f"{result}_Cast", to=kind)
