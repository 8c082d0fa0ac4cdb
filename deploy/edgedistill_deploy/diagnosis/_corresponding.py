"""Which values of two models ought to be equal, and what a node is called in the student it was exported from.

A quantiser keeps the names of values and puts a QuantizeLinear and a DequantizeLinear behind those that it brings to
INT8. It may drop a Relu in front of them, whose work the range does, and give its name to the Conv before: then only
the pair's result corresponds to what the float model calls by that name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgedistill_deploy.onnx_files.graph import Graph, Node

_PAIR = ("QuantizeLinear", "DequantizeLinear")
# ONNX Runtime's quantiser calls a graph's output so in front of the pair, to give the pair's result its name.
_OUTPUT_SUFFIX = "_QuantizeLinear_Input"
_ROOT = "model."  # where an exported classifier keeps the student


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value of the candidate and the one of the reference that it should equal.

    `node` made it; `suspects` are all nodes between it and the nearest values that are compared too, whose places are
    `parents`.
    """

    value: str
    reference_value: str
    node: Node
    suspects: tuple[Node, ...]
    parents: frozenset[int]


@dataclass(frozen=True, slots=True)
class ModuleName:
    """A module of the student by its dotted name; `relation` is "of" its own nodes, "after" for those that have no
    weights."""

    name: str
    relation: str


def corresponding_values(reference: Graph, candidate: Graph) -> tuple[Point, ...]:
    """Return the values that both graphs have, in the candidate's order."""
    pairs = dict(_pairs(reference, candidate))
    place = {value: number for number, value in enumerate(pairs)}
    return tuple(_point(candidate, value, other, place) for value, other in pairs.items())


def _pairs(reference: Graph, candidate: Graph) -> Iterator[tuple[str, str]]:
    """Yield (candidate's value, reference's value). What a QuantizeLinear gives is left out: steps of different
    scales."""
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
    """Return, for each value that a QuantizeLinear and DequantizeLinear give, the value they were given."""
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
    """Return the node that computes among the suspects, the quantisation where nothing else stands between."""
    computing = [node for node in point.suspects if node.operator not in _PAIR]
    return computing[-1] if computing else point.node


def module_of(graph: Graph, node: Node) -> ModuleName | None:
    """Return the student's module that a node belongs to, by the names of its weights; else the nearest one before
    it."""
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
