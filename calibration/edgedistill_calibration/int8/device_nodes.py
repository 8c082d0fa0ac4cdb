"""Which nodes pay in INT8 on one device, by the times that were measured there.

A node alone pays where its INT8 time is less than its float time. But a value between an INT8 node and a float one must
be quantised or dequantised, which takes time too. So the nodes are chosen together: of all ways to divide the graph,
the one whose nodes and seams take the least time. That is a minimum cut, and it is exact.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

from edgedistill_calibration.graphs.preparation import WEIGHTED

MARGIN = 0.05  # INT8 must save so much of a node's time: measurements vary
# What a runtime computes inside the node before, so that it is no seam.
_INSIDE = ("Relu", "Clip")
# Without any measured node: about what a core takes for a value.
_USUAL_MS_PER_VALUE = 5e-7
# Nodes that take about as long for a number as Q and DQ. A node of fewer numbers mostly takes what any node takes.
_PER_VALUE = ("Cast", "Mul", "Add", "Sub")
_LEAST_NUMBERS = 20_000
# At a seam the runtime also changes the layout of a value, which takes about as long as quantising it.
_SEAM_FACTOR = 2.0
_NOTHING = 1e-12  # ms; less is rounding
_INT8, _FP32 = "\0int8", "\0fp32"  # the two ends of the cut; no node has such a name


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTimes:
    """What one node takes in a run, in ms, in float and in INT8."""

    fp32_ms: float
    int8_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """A value from a node to a reader, and what it takes, in ms, to quantise and to dequantise it.

    `maker` is None where the value's maker is always float, `reader` where its reader is.
    """

    maker: str | None
    reader: str | None
    quantise_ms: float
    dequantise_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """The nodes that pay in INT8, and about what the nodes that can be divided and their seams take, in ms.

    `fp32_ms` is with all of them in float, `int8_ms` with all in INT8, `mixed_ms` as divided.
    """

    int8: frozenset[str]
    fp32_ms: float
    int8_ms: float
    mixed_ms: float


def divide(times: Mapping[str, NodeTimes], seams: Sequence[Seam]) -> Division:
    """Divide nodes into INT8 and float so that all of them and their seams take the least time."""
    chosen = _least_cut(times, seams)
    return Division(
        int8=chosen,
        fp32_ms=_total(times, seams, frozenset()),
        int8_ms=_total(times, seams, frozenset(times)),
        mixed_ms=_total(times, seams, chosen),
    )


def _total(times: Mapping[str, NodeTimes], seams: Sequence[Seam], int8: frozenset[str]) -> float:
    nodes = sum(each.int8_ms if name in int8 else each.fp32_ms for name, each in times.items())
    return nodes + sum(_seam_ms(seam, seam.maker in int8, seam.reader in int8) for seam in seams)


def _seam_ms(seam: Seam, from_int8: bool, to_int8: bool) -> float:
    if from_int8 == to_int8:
        return 0.0
    return seam.dequantise_ms if from_int8 else seam.quantise_ms


def _least_cut(times: Mapping[str, NodeTimes], seams: Sequence[Seam]) -> frozenset[str]:
    """Return the nodes on INT8's side of the minimum cut: between the two types runs an edge for every cost."""
    edges: dict[tuple[str, str], float] = defaultdict(float)
    for name, each in times.items():
        edges[_INT8, name] += each.fp32_ms  # cut where the node is float
        edges[name, _FP32] += each.int8_ms * (1 + MARGIN)  # cut where it is INT8
    for seam in seams:
        maker = _FP32 if seam.maker is None else seam.maker
        reader = _FP32 if seam.reader is None else seam.reader
        if maker != reader:
            edges[maker, reader] += seam.dequantise_ms  # cut where the maker alone is INT8
            edges[reader, maker] += seam.quantise_ms
    return frozenset(_reached(edges, _INT8, _FP32) & times.keys())


def _reached(edges: Mapping[tuple[str, str], float], source: str, sink: str) -> set[str]:
    """Return what is on the source's side of a minimum cut (Edmonds and Karp)."""
    room: dict[str, dict[str, float]] = {}
    for (one, other), size in edges.items():
        room.setdefault(one, {}).setdefault(other, 0.0)
        room.setdefault(other, {}).setdefault(one, 0.0)
        room[one][other] += size
    while True:
        before = _search(room, source)
        if sink not in before:
            return {*before}
        path = [*_path(before, sink)]
        least = min(room[one][other] for one, other in path)
        for one, other in path:
            room[one][other] -= least
            room[other][one] += least


def _search(room: Mapping[str, Mapping[str, float]], source: str) -> dict[str, str]:
    """Return what can be reached through edges that have room, each with the node before it."""
    before: dict[str, str] = {source: source}
    waiting = deque([source])
    while waiting:
        node = waiting.popleft()
        for other, size in room.get(node, {}).items():
            if size > _NOTHING and other not in before:
                before[other] = node
                waiting.append(other)
    return before


def _path(before: Mapping[str, str], sink: str) -> Iterator[tuple[str, str]]:
    node = sink
    while before[node] != node:
        yield before[node], node
        node = before[node]


def find_seams(
    graph: onnx.GraphProto, names: frozenset[str], sizes: Mapping[str, int], quantise_ms: float, dequantise_ms: float
) -> tuple[Seam, ...]:
    """Return the seams between these nodes, and between them and the rest of a float graph.

    Args:
        graph: the float graph.
        names: the nodes that can be in INT8.
        sizes: of the float values, in numbers for one image.
        quantise_ms, dequantise_ms: for one number, as measured on the device.
    """
    makers = {value: node for node in graph.node for value in node.output}
    pairs: dict[tuple[str, str | None, str | None], float] = {}
    for node in graph.node:
        if node.op_type in _INSIDE:
            continue
        reader = node.name if node.name in names else None
        for value in node.input[: 2 if node.op_type in WEIGHTED else None]:
            source = _source(value, makers)
            maker = source.name if source is not None and source.name in names else None
            if value in sizes and (maker or reader) and maker != reader:
                pairs[value, maker, reader] = float(sizes[value])
    # Several readers of one type share what it takes to convert a value for them.
    shared = Counter((value, reader is None) for value, _, reader in pairs)
    return tuple(
        Seam(
            maker=maker,
            reader=reader,
            quantise_ms=_SEAM_FACTOR * size * quantise_ms / (shared[value, False] or 1),
            dequantise_ms=_SEAM_FACTOR * size * dequantise_ms / (shared[value, True] if reader is None else 1),
        )
        for (value, maker, reader), size in pairs.items()
    )


def _source(value: str, makers: Mapping[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """Return the node that makes a value, past what is computed inside that node."""
    maker = makers.get(value)
    while maker is not None and maker.op_type in _INSIDE:
        maker = makers.get(maker.input[0])
    return maker


def conversion_ms(
    graphs: Sequence[onnx.GraphProto], times: Mapping[str, float], sizes: Mapping[str, int], operator: str
) -> float:
    """Return what a node of this kind (QuantizeLinear or DequantizeLinear) takes for one number, in ms.

    Where the record has no such node of many numbers, another node that reads and writes each number once tells it.

    Args:
        graphs: the INT8 graph and the float one; their values and nodes have the same names.
        times: of the INT8 graph's nodes, in ms.
        sizes: of the float graph's values.
    """
    nodes = [node for graph in graphs for node in graph.node]
    for operators in ((operator,), _PER_VALUE):
        measured = {
            node.name: (times[node.name], sizes[value])
            for node in nodes
            for value in (*node.input[:1], *node.output)
            if node.op_type in operators and node.name in times and sizes.get(value, 0) >= _LEAST_NUMBERS
        }
        if measured:
            return sum(ms for ms, _ in measured.values()) / sum(size for _, size in measured.values())
    return _USUAL_MS_PER_VALUE
