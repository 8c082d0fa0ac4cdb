"""Decides from measured values which nodes compute in float16, and says why the others do not."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgedistill_calibration.float16._range import Extent, constant_fault, sum_fault, value_fault
from edgedistill_calibration.float16._types import Movable, movable, opset_versions, touches_float, value_types

# They square their input and add the squares up, so neither input nor output shows how large the numbers inside are.
_NORMALISATIONS = frozenset(
    ("LRN", "LpNormalization", "InstanceNormalization", "MeanVarianceNormalization", "GroupNormalization")
)
SQUARING = _NORMALISATIONS | {"ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "LpPool", "GlobalLpPool"}
_MEANS = frozenset(("ReduceMean", "GlobalAveragePool", "AveragePool"))
_SUMS = frozenset(("ReduceMean", "ReduceSum"))
# These follow a sum of squares in a norm or a variance, before the division.
_AFTER_SQUARES = frozenset(("Add", "Sqrt", "Reciprocal", "Pow", "Clip", "Max"))
Fault = tuple[str, float | None]


@dataclass(slots=True)
class Plan:
    """By place in the main graph: what of a node moves to float16, and why a node with float values stays."""

    moved: dict[int, Movable] = field(default_factory=dict)
    kept: dict[int, Fault] = field(default_factory=dict)

    def keep(self, place: int, reason: str, largest: float | None = None) -> bool:
        """Take a node back to float32; False when it was there already."""
        if self.moved.pop(place, None) is None:
            return False
        self.kept[place] = (reason, largest)
        return True


def make_plan(model: onnx.ModelProto, extents: Mapping[str, Extent], distrusted: Mapping[int, str]) -> Plan:
    """Return which nodes compute in float16.

    Args:
        model: float32, with constants lifted.
        extents: of the float32 values.
        distrusted: further nodes to leave in float32, and why.
    """
    plan, graph, nodes = _by_type(model), model.graph, list(model.graph.node)
    floats = (each for each in graph.initializer if each.data_type == TensorProto.FLOAT)
    constants = {each.name: numpy_helper.to_array(each) for each in floats}
    for place, reason in (*distrusted.items(), *_squares(graph, constants), *_after_outputs(graph)):
        plan.keep(place, reason)
    for place, how in list(plan.moved.items()):
        fault = _find_fault(nodes[place], how, extents, constants)
        if fault is not None:
            plan.keep(place, *fault)
    _keep_pairs_whole(nodes, plan)
    return plan


def node_name(node: onnx.NodeProto, place: int) -> str:
    """Return a node's name, or its kind and place."""
    return node.name or f"{node.op_type}_{place}"


def _by_type(model: onnx.ModelProto) -> Plan:
    types, opsets, plan = value_types(model), opset_versions(model), Plan()
    for place, node in enumerate(model.graph.node):
        if not touches_float(node, types):
            continue
        how = movable(node, types, opsets)
        if isinstance(how, str):
            plan.kept[place] = (how, None)
        else:
            plan.moved[place] = how
    return plan


def _find_fault(
    node: onnx.NodeProto, how: Movable, extents: Mapping[str, Extent], constants: Mapping[str, NDArray[np.float32]]
) -> Fault | None:
    names = [node.input[place] for place in sorted(how.inputs)]
    names += [node.output[place] for place in sorted(how.outputs)]
    for name in names:
        fault = constant_fault(constants[name]) if name in constants else value_fault(extents.get(name, Extent()))
        if fault is not None:
            return f"{name} {fault[0]}", fault[1]
    if node.op_type in _MEANS and how.outputs:
        return sum_fault(extents.get(node.input[0], Extent()), extents.get(node.output[0], Extent()))
    return None


def _squares(graph: onnx.GraphProto, constants: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[int, str]]:
    """Yield the nodes that add up squares, the nodes that square, and those that follow before the division."""
    readers = _readers(graph)
    for place, node in enumerate(graph.node):
        if node.op_type in SQUARING:
            yield place, "adds up squares"
        if not _is_square(node, constants):
            continue
        for summing in readers[node.output[0]]:
            if graph.node[summing].op_type in _SUMS:
                yield place, "adds up squares"
                yield from _chain(graph, readers, summing)


def _chain(graph: onnx.GraphProto, readers: Mapping[str, list[int]], place: int) -> Iterator[tuple[int, str]]:
    yield place, "adds up squares"
    for name in graph.node[place].output:
        for following in readers[name]:
            if graph.node[following].op_type in _AFTER_SQUARES and following > place:
                yield from _chain(graph, readers, following)


def _is_square(node: onnx.NodeProto, constants: Mapping[str, NDArray[np.float32]]) -> bool:
    if node.op_type == "Mul":
        return bool(node.input[0] == node.input[1])
    if node.op_type != "Pow" or node.input[1] not in constants:
        return False
    return bool(np.all(constants[node.input[1]] == 2))


def _after_outputs(graph: onnx.GraphProto) -> Iterator[tuple[int, str]]:
    """Yield the nodes that compute with an output, which is float32: a decision must agree with the output."""
    after = {each.name: each.name for each in graph.output}
    for place, node in enumerate(graph.node):
        origin = next((after[name] for name in node.input if name in after), None)
        if origin is not None:
            yield place, f"goes on from the output {origin}"
            after.update(dict.fromkeys((name for name in node.output if name not in after), origin))


def _keep_pairs_whole(nodes: list[onnx.NodeProto], plan: Plan) -> None:
    """Keep a DequantizeLinear and its readers in one precision: runtimes fuse them only then."""
    partners: dict[int, set[int]] = defaultdict(set)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    for place, node in enumerate(nodes):
        for maker in (makers[name] for name in node.input if name in makers):
            if nodes[maker].op_type == "DequantizeLinear":
                partners[maker].add(place)
                partners[place].add(maker)
    waiting = list(plan.kept)
    while waiting:
        place = waiting.pop()
        for partner in sorted(partners[place]):
            if plan.keep(partner, f"shares quantised values with {node_name(nodes[place], place)}"):
                waiting.append(partner)


def _readers(graph: onnx.GraphProto) -> dict[str, list[int]]:
    readers: dict[str, list[int]] = defaultdict(list)
    for place, node in enumerate(graph.node):
        for name in node.input:
            readers[name].append(place)
    return readers
