"""The values of two models that should be equal, and the student's module that a node was exported from.

A quantiser keeps the names of values and puts a QuantizeLinear and a DequantizeLinear behind each value that it turns
into INT8. It may drop a Relu in front of the pair, because the range does its work, and give the Relu's name to the
Conv before. Then only the pair's result corresponds to the float model's value of that name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgedistill_deploy.onnx_files.graph import Graph, Node

_PAIR = ("QuantizeLinear", "DequantizeLinear")
# ONNX Runtime's quantiser adds this to a graph's output before the pair; the pair's result takes the output's name.
_OUTPUT_SUFFIX = "_QuantizeLinear_Input"
_ROOT = "model."  # where an exported classifier keeps the student


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value of the candidate and the reference's value that it should equal.

    `node` made it. `parents` are the places of the nearest compared values before it, `suspects` all nodes between.
    """

    value: str
    reference_value: str
    node: Node
    suspects: tuple[Node, ...]
    parents: frozenset[int]


@dataclass(frozen=True, slots=True)
class ModuleName:
    """The student's module by its dotted name; `relation` is "of" for its own nodes, "after" for those behind it."""

    name: str
    relation: str


def corresponding_values(reference: Graph, candidate: Graph) -> tuple[Point, ...]:
    """Return the values that both graphs have, in the candidate's order."""
    pairs = dict(_pairs(reference, candidate))
    place = {value: number for number, value in enumerate(pairs)}
    return tuple(_point(candidate, value, other, place) for value, other in pairs.items())


def _pairs(reference: Graph, candidate: Graph) -> Iterator[tuple[str, str]]:
    """Yield (candidate's value, reference's value). Results of a QuantizeLinear are left out: their scales differ."""
    ours, theirs = _find_float_values(candidate), _find_float_values(reference)
    restored_there = {value: restored for restored, value in theirs.items()}
    quantised_here = set(ours.values())
    quantised = {*quantised_here, *theirs.values()}
    for value, node in candidate.makers.items():
        twin = reference.makers.get(value)
        if node.operator == _PAIR[0]:
            continue
        if twin is not None and (twin.operator == node.operator or value not in quantised):
            yield value, value
        elif value in ours and ours[value] in reference.makers:
            yield value, ours[value]
        elif value in restored_there and value not in quantised_here:
            yield value, restored_there[value]


def _find_float_values(graph: Graph) -> dict[str, str]:
    """Return the input of each QuantizeLinear and DequantizeLinear pair, by the pair's result."""
    found = {}
    for node in graph.nodes:
        quantised = graph.makers.get(node.inputs[0]) if node.operator == _PAIR[1] else None
        if quantised is not None and quantised.operator == _PAIR[0]:
            found[node.outputs[0]] = quantised.inputs[0].removesuffix(_OUTPUT_SUFFIX)
    return found


def _point(candidate: Graph, value: str, other: str, place: dict[str, int]) -> Point:
    parents: set[int] = set()
    suspects: dict[str, Node] = {}
    pending = [value]
    while pending:
        node = candidate.makers[pending.pop()]
        suspects[node.outputs[0]] = node
        for read in node.inputs:
            if read in place:
                parents.add(place[read])
            elif read in candidate.makers and candidate.makers[read].outputs[0] not in suspects:
                pending.append(read)
    return Point(
        value=value,
        reference_value=other,
        node=candidate.makers[value],
        suspects=tuple(node for node in candidate.nodes if node.outputs and node.outputs[0] in suspects),
        parents=frozenset(parents),
    )


def chief_suspect(point: Point) -> Node:
    """Return the last suspect that computes, or the quantisation if there is none."""
    computing = [node for node in point.suspects if node.operator not in _PAIR]
    return computing[-1] if computing else point.node


def module_of(graph: Graph, node: Node) -> ModuleName | None:
    """Return the student's module that a node belongs to, by the names of its weights; else the nearest one before."""
    relation, seen, layer = "of", {node.name}, [node]
    while layer:
        names = [name for each in layer for name in _module_names(graph, each)]
        if names:
            return ModuleName(names[0], relation)
        before = [graph.makers[value] for each in layer for value in each.inputs if value in graph.makers]
        layer = [each for each in dict.fromkeys(before) if each.name not in seen]
        seen.update(each.name for each in layer)
        relation = "after"
    return None


def _module_names(graph: Graph, node: Node) -> Iterator[str]:
    for value in node.inputs:
        maker = graph.makers.get(value)
        if maker is not None and maker.operator in _PAIR and node.operator not in _PAIR:
            # INT8 weights stand behind a DequantizeLinear.
            yield from _module_names(graph, maker) if maker.inputs[0] in graph.initializers else ()
        elif value in graph.initializers and "." in value:
            name = value.removeprefix(_ROOT)
            yield name.rpartition(".")[0] or name
