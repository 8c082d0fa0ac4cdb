"""The student's module of a runtime's node, from the names of nodes and weights in the exported file.

The export names every node MODULE/OPERATOR, and calibration keeps the names. A runtime changes the graph: it joins and
adds nodes. It names a result after a node or value of the file, with something appended (relu_5_nchwc, conv_token_12),
or lists several names (conv + relu). So the longest name of the file that starts a runtime's name gives the node.
"""

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from edgedistill_deploy.onnx_files.graph import Graph, Node, read_graph

_STUDENT = "model."  # the student inside the exported file
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_CONVERTERS = ("DequantizeLinear", "QuantizeLinear", "Cast")
# What a runtime writes between the names of several nodes; no name in the file has one of these.
_BETWEEN_NAMES = re.compile(r"\s*\+\s*|\.\.\.|[\s\[\](){},]+")
# ONNX Runtime's prefix for the name of a value whose casts to float16 it moved.
_MOVED = re.compile(r"^(InsertedPrecisionFreeCast_)+")
_FARTHEST = 6  # nodes from the last one of a joined group back to the one that does the work


class ModulesOfNodes:
    """Finds the student's module for a runtime's name of a node."""

    def __init__(self, path: Path) -> None:
        """Read the file's graph. Raises EdgeDistillError when it is no ONNX model."""
        self._graph: Graph = read_graph(path)

    def __len__(self) -> int:
        return len(self._graph.nodes)

    def find(self, name: str, operator: str | None = None) -> tuple[str | None, str | None]:
        """Return the module, dotted as in torch's named_modules, and the operator of the file's node.

        The module is None where the runtime made the node itself, such as a change of layout. `name` is from the
        runtime's profiler, and so is `operator`, None where the profiler gives none.
        """
        node = self.node_of(name, operator)
        return (None, None) if node is None else (self._module(node), node.operator)

    def node_of(self, name: str, operator: str | None = None) -> Node | None:
        """Return the file's node that does the work of a runtime's; None where the runtime made the node itself."""
        made = re.escape(operator or "")
        if name not in self._nodes_by_name and operator is not None and re.fullmatch(rf"{made}(_token_\d+)?", name):
            return None
        found = [node for node in map(self._node, _BETWEEN_NAMES.split(name)) if node is not None]
        if not found:
            return None
        weighted = [node for node in found if node.operator in _WEIGHTED]
        return self._working((weighted or found)[0], operator)

    @cached_property
    def _nodes_by_name(self) -> dict[str, Node]:
        """Each node by its own name, and by the names of the values that it makes and of the weights that it reads."""
        named: dict[str, Node] = {}
        for node in self._graph.nodes:
            named.update(dict.fromkeys((value for value in node.inputs if value in self._graph.initializers), node))
        for node in self._graph.nodes:
            named.update({value: node for value in node.outputs if value})
        named.update({node.name: node for node in self._graph.nodes if node.name})
        return named

    def _node(self, name: str) -> Node | None:
        name = _MOVED.sub("", name)
        if name in self._nodes_by_name:
            return self._nodes_by_name[name]
        starts = [name[: place.start()] for place in re.finditer(r"[_/.:]", name)]
        return next((self._nodes_by_name[start] for start in reversed(starts) if start in self._nodes_by_name), None)

    def _working(self, node: Node, operator: str | None) -> Node:
        """Return the node that does the work: a runtime names a joined group after its last node."""
        if operator is None or _same(operator, node.operator):
            return node
        reached = [node]
        for _ in range(_FARTHEST):
            reached = [maker for each in reached for maker in self._makers(each)]
            if found := next((maker for maker in reached if _same(operator, maker.operator)), None):
                return found
        return node

    def _makers(self, node: Node) -> Iterator[Node]:
        return (self._graph.makers[value] for value in node.inputs if value in self._graph.makers)

    def _module(self, node: Node) -> str | None:
        """Return the module by the node's name, else by its weights, else the module of the nearest node before it."""
        for _ in range(len(self)):
            path = _read_module(node.name) or self._module_of_weights(node)
            if path is not None:
                return path.removeprefix(_STUDENT)
            before = next(self._makers(node), None)
            if before is None:
                return None
            node = before
        return None

    def _module_of_weights(self, node: Node) -> str | None:
        for value in node.inputs:
            maker = self._graph.makers.get(value)
            # A weight can come from a dequantisation.
            sources = maker.inputs[:1] if maker is not None and maker.operator in _CONVERTERS else (value,)
            for source in sources:
                module = source.rpartition(".")[0]
                if source in self._graph.initializers and module:
                    return module
        return None


def _read_module(name: str) -> str | None:
    """Read the module from MODULE/OPERATOR; None for other names."""
    module, slash, _ = name.partition("/")
    return module if slash and module else None


def _same(given: str, operator: str) -> bool:
    """Return whether a runtime's operator does the work of a file's, as FusedConv and QLinearConv do for Conv."""
    return given == operator or (given.endswith(operator) and given.startswith(("Fused", "QLinear", "Q", "N")))
