"""Puts single nodes of a Q/DQ graph back to float, as if ONNX Runtime's quantiser had left them out."""

import copy
from collections.abc import Collection, Iterator

import onnx

from edgedistill_calibration.graphs.preparation import WEIGHTED

_INSIDE = ("Relu", "Clip")  # a runtime computes them in the node before
_PAIR = ("QuantizeLinear", "DequantizeLinear")


class MixedPrecision:
    """A quantised graph and the float graph it was made from.

    A node is left in float together with its weights and the values it reads, and, where the quantiser joined a ReLU
    with the Conv before it, with the Conv's output. A value that another quantised node reads too stays quantised for
    that node alone. A value that no node needs in INT8 is float for every reader, also for residual Adds.

    Attributes:
        nodes: the names of the quantised nodes with weights, in the graph's order.
    """

    def __init__(self, prepared: onnx.ModelProto, quantised: onnx.ModelProto) -> None:
        self._quantised = quantised
        self._float = _Index(prepared.graph)
        index = _Index(quantised.graph)
        self.nodes = tuple(
            node.name
            for node in quantised.graph.node
            if node.op_type in WEIGHTED and node.name in self._float.nodes and index.is_quantised(node)
        )

    def leaving(self, names: Collection[str], *, fused: bool = False) -> onnx.ModelProto:
        """Return the graph with these nodes in float.

        With `fused`, such a node reads what an INT8 node before it makes, quantised and dequantised: a runtime computes
        that node in INT8 only if its output is quantised too.
        """
        model = copy.deepcopy(self._quantised)
        if names:
            quantised = set(self.nodes) - set(names)
            nodes = list(_Rewriter(model.graph, self._float, quantised, set(names), fused=fused).rewritten())
            _keep_used(model.graph, nodes)
        return model

    def float_nodes(self, model: onnx.ModelProto) -> list[str]:
        """Return the nodes that are in float in a graph from `leaving`."""
        index = _Index(model.graph)
        return [name for name in self.nodes if not index.is_quantised(index.nodes[name])]


class _Index:
    """A graph's nodes by name, their makers by value, and its constants."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.nodes = {node.name: node for node in graph.node}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {each.name: each for each in graph.initializer}
        self.outputs = {each.name for each in graph.output}

    def pair(self, value: str) -> onnx.NodeProto | None:
        """Return the Q node where `value` comes from a Q and a DQ, else None."""
        maker = self.makers.get(value)
        before = self.makers.get(maker.input[0]) if maker and maker.op_type == "DequantizeLinear" else None
        return before if before is not None and before.op_type == "QuantizeLinear" else None

    def is_quantised(self, node: onnx.NodeProto) -> bool:
        """Say whether all inputs of a node but its bias come from DequantizeLinear."""
        makers = [self.makers.get(name) for name in node.input[:2]]
        return all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers)

    def sole_input(self, node: onnx.NodeProto) -> str | None:
        """Return the one value, not a constant, that a node reads; None for several inputs or outputs."""
        constant = {
            name
            for name in node.input
            if name in self.constants or (name in self.makers and self.makers[name].op_type == "Constant")
        }
        read = [name for name in node.input if name and name not in constant]
        return read[0] if len(read) == 1 and len(node.output) == 1 else None


class _Rewriter:
    """Gives the nodes of a graph again, with float inputs where they should be float."""

    def __init__(
        self, graph: onnx.GraphProto, source: _Index, quantised: set[str], left: set[str], *, fused: bool
    ) -> None:
        self._graph, self._source, self._index = graph, source, _Index(graph)
        self._quantised, self._left, self._fused = quantised, left, fused
        self._floats: dict[str, str] = {}
        needed = {name for node in graph.node if node.name in quantised for name in node.input}
        self._needed = needed | self._index.outputs

    def rewritten(self) -> Iterator[onnx.NodeProto]:
        """Yield every node, and before it the nodes that make the float values it reads."""
        for node in list(self._graph.node):
            if node.name in self._left:
                kept = [self._fused and self._is_made_in_int8(name) for name in node.input]
                yield from self._read_floats(node, [place for place, keep in enumerate(kept) if not keep])
            elif node.op_type not in _PAIR and node.name not in self._quantised:
                unwanted = [place for place, name in enumerate(node.input) if self._is_unwanted(name)]
                yield from self._read_floats(node, unwanted)
            yield node

    def _is_made_in_int8(self, value: str) -> bool:
        """Say whether a value is the quantised output of an INT8 node, perhaps past a ReLU."""
        pair = self._index.pair(value)
        maker = None if pair is None else self._index.makers.get(pair.input[0])
        while maker is not None and maker.op_type in _INSIDE:
            maker = self._index.makers.get(maker.input[0])
        return maker is not None and maker.name in self._quantised

    def _is_unwanted(self, value: str) -> bool:
        """Say whether no quantised node needs a value in INT8."""
        pair = self._index.pair(value)
        if pair is None or value in self._needed:
            return False
        maker = self._index.makers.get(pair.input[0])
        return maker is None or maker.name not in self._quantised

    def _read_floats(self, node: onnx.NodeProto, places: Collection[int]) -> Iterator[onnx.NodeProto]:
        """Let a node read what its twin in the float graph reads; yield the nodes that this needs."""
        twin = self._source.nodes.get(node.name)
        if twin is None:
            return
        for place in places:
            made: list[onnx.NodeProto] = []
            node.input[place] = self._float_value(twin.input[place], made)
            yield from made

    def _float_value(self, name: str, made: list[onnx.NodeProto]) -> str:
        """Return the name that a value of the float graph has here, and add nodes that it needs to `made`."""
        if name not in self._floats:
            self._floats[name] = self._find_float(name, made)
        return self._floats[name]

    def _find_float(self, name: str, made: list[onnx.NodeProto]) -> str:
        if name in self._source.constants:
            return self._constant(name)
        maker = self._source.makers.get(name)
        if maker is None:
            return name
        here = self._index.nodes.get(maker.name)
        before = self._source.sole_input(maker) if maker.op_type not in WEIGHTED else None
        if before is None:
            return str((here or maker).output[list(maker.output).index(name)])
        source = self._float_value(before, made)
        if here is not None and source in here.input:
            return str(here.output[0])
        return self._add_copy(maker, before, source, made)

    def _add_copy(self, node: onnx.NodeProto, before: str, source: str, made: list[onnx.NodeProto]) -> str:
        added = copy.deepcopy(node)
        added.name, added.output[0] = f"{node.name}_float", f"{node.output[0]}_float"
        for place, name in enumerate(node.input):
            if name:
                added.input[place] = source if name == before else self._float_value(name, made)
        made.append(added)
        return str(added.output[0])

    def _constant(self, name: str) -> str:
        """Copy a constant of the float graph under a new name: in quantised graphs a DQ has the bias's name."""
        made = copy.deepcopy(self._source.constants[name])
        made.name = f"{name}_float"
        self._graph.initializer.append(made)
        return str(made.name)


def _keep_used(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Make these the graph's nodes, and drop nodes and constants that no output depends on."""
    used = {each.name for each in graph.output}
    kept = []
    for node in reversed(nodes):
        if used & set(node.output):
            kept.append(node)
            used.update(node.input)
    constants = [each for each in graph.initializer if each.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
