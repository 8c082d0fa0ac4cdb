"""Several graphs that have most of their nodes in common, as one graph that computes the common part once."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx

# A runtime computes Relu and Clip in the node before, and finds Q/DQ around a node by who reads what.
_INSIDE = ("Relu", "Clip")
_PAIR = ("QuantizeLinear", "DequantizeLinear")

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedGraph:
    """A graph that gives one value of each of several graphs."""

    model: onnx.ModelProto
    outputs: tuple[str, ...]  # the name here of the value of each graph


def merge_graphs(models: Sequence[onnx.ModelProto], output: str) -> MergedGraph:
    """Return one graph that gives the value `output` of each of these graphs, which have the same inputs.

    Two nodes become one if they do the same with the same values and a runtime fuses both with the same neighbours: a
    node whose value is read in INT8 in one graph and in float in another stays two, so that each graph is computed as
    it would be alone.
    """
    merger = _Merger()
    outputs = tuple(merger.add(model.graph, output) for model in models)
    merged = onnx.ModelProto(ir_version=models[0].ir_version, opset_import=models[0].opset_import)
    merged.graph.name = "merged"
    merged.graph.input.extend(models[0].graph.input)
    merged.graph.node.extend(merger.nodes)
    read = set(_names_read(merger.nodes))
    merged.graph.initializer.extend(each for each in merger.constants if each.name in read)
    known = next(each for each in models[0].graph.output if each.name == output)
    for name in dict.fromkeys(outputs):
        made = copy.deepcopy(known)
        made.name = name
        merged.graph.output.append(made)
    return MergedGraph(model=merged, outputs=outputs)


class _Merger:
    """Collects nodes and constants under new names, each once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._known: dict[_Key, tuple[str, ...]] = {}
        # Weights in INT8 by a name that stands for them, each a DequantizeLinear and the constants that it reads.
        self._weights: dict[str, _Weight] = {}

    def add(self, graph: onnx.GraphProto, output: str) -> str:
        """Add what a graph has beyond the graphs before, and return the new name of a value of it."""
        constants = {each.name: each for each in graph.initializer}
        names: dict[str, str] = {"": "", **{each.name: each.name for each in graph.input}}
        names |= {name: self._constant(each) for name, each in constants.items()}
        readers = _readers(graph)
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and constants.keys() >= set(node.input):
                names[node.output[0]] = self._weight(_Weight(node, [constants[name] for name in node.input]))
            else:
                names |= zip(node.output, self._node(node, names, readers), strict=True)
        return names[output]

    def _constant(self, tensor: onnx.TensorProto) -> str:
        """Return the new name of a constant: one for those of one name and content."""
        key = ("constant", tensor.SerializeToString(deterministic=True))
        if key not in self._known:
            self._known[key] = (self._copy(tensor),)
        return self._known[key][0]

    def _copy(self, tensor: onnx.TensorProto) -> str:
        made = copy.deepcopy(tensor)
        made.name = f"merged_constant_{len(self.constants)}"
        self.constants.append(made)
        return str(made.name)

    def _weight(self, weight: "_Weight") -> str:
        """Return the name that stands for a weight in INT8, until a node that reads it is made."""
        key = ("weight", weight.node.SerializeToString(deterministic=True), *map(self._constant, weight.constants))
        if key not in self._known:
            name = f"merged_weight_{len(self._weights)}"
            self._weights[name], self._known[key] = weight, (name,)
        return self._known[key][0]

    def _node(
        self, node: onnx.NodeProto, names: Mapping[str, str], readers: Mapping[str, list[onnx.NodeProto]]
    ) -> tuple[str, ...]:
        inputs = [names[name] for name in node.input]
        attributes = [_renamed(each, names) for each in node.attribute]
        key = (
            node.domain,
            node.op_type,
            tuple(inputs),
            tuple(bool(name) for name in node.output),
            tuple(sorted(each.SerializeToString(deterministic=True) for each in attributes)),
            () if node.op_type in _PAIR else _neighbours(node, readers),
        )
        if key not in self._known:
            self._known[key] = self._make(node, [self._own(name) for name in inputs], attributes)
        return self._known[key]

    def _own(self, name: str) -> str:
        """Return the name of a value; a weight in INT8 is made anew for every node that reads it.

        ONNX Runtime 1.32 cannot make the kernels exact where two nodes share the zero point of their weights.
        """
        weight = self._weights.get(name)
        if weight is None:
            return name
        return self._make(weight.node, [self._copy(each) for each in weight.constants], weight.node.attribute)[0]

    def _make(
        self, node: onnx.NodeProto, inputs: Sequence[str], attributes: Iterable[onnx.AttributeProto]
    ) -> tuple[str, ...]:
        name = f"merged_{len(self.nodes)}"
        outputs = tuple(f"{name}_{place}" if given else "" for place, given in enumerate(node.output))
        self.nodes.append(
            onnx.NodeProto(
                name=name, op_type=node.op_type, domain=node.domain, input=inputs, output=outputs, attribute=attributes
            )
        )
        return outputs


@dataclass(frozen=True, slots=True)
class _Weight:
    node: onnx.NodeProto  # DequantizeLinear
    constants: Sequence[onnx.TensorProto]  # that it reads


def _renamed(attribute: onnx.AttributeProto, names: Mapping[str, str]) -> onnx.AttributeProto:
    """Return an attribute; graphs in it read the values around them by their new names."""
    if not attribute.HasField("g") and not attribute.graphs:
        return attribute
    made = copy.deepcopy(attribute)
    for graph in (made.g, *made.graphs):
        own = {each.name for each in (*graph.input, *graph.initializer)}
        own.update(name for node in graph.node for name in node.output)
        around = {name: new for name, new in names.items() if name not in own}
        for node in graph.node:
            for place, name in enumerate(node.input):
                node.input[place] = around.get(name, name)
            for inner in node.attribute:
                inner.CopyFrom(_renamed(inner, around))
    return made


def _names_read(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    """Yield what nodes read, and graphs inside them."""
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _names_read(graph.node)


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _neighbours(node: onnx.NodeProto, readers: Mapping[str, list[onnx.NodeProto]]) -> _Key:
    """Return the kinds of nodes that read a node's values, past those that are computed inside it."""
    return tuple(
        sorted(
            f"{reader.op_type}{_neighbours(reader, readers) if reader.op_type in _INSIDE else ''}"
            for name in node.output
            for reader in readers.get(name, ())
        )
    )
