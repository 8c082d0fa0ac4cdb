"""Reads a Q/DQ model: which node takes what in INT8, with which scales and zero points."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


@dataclass(frozen=True)
class Dequantised:
    """A DequantizeLinear: its scale and zero point, and its stored values when they are constants."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.generic]
    stored: NDArray[np.generic] | None
    axis: int


class QdqGraph:
    """A quantised graph, indexed."""

    def __init__(self, path: Path) -> None:
        self.model = onnx.load(path)
        self.nodes = list(self.model.graph.node)
        self.constants = {each.name: numpy_helper.to_array(each) for each in self.model.graph.initializer}
        self.makers = {name: node for node in self.nodes for name in node.output}

    def of(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes of these kinds, in the graph's order."""
        return (node for node in self.nodes if node.op_type in kinds)

    def readers(self, value: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value."""
        return [node for node in self.nodes if value in node.input]

    def dequantised(self, value: str) -> Dequantised | None:
        """Return what makes a value, when that is a DequantizeLinear."""
        maker = self.makers.get(value)
        if maker is None or maker.op_type != "DequantizeLinear":
            return None
        axis = next((each.i for each in maker.attribute if each.name == "axis"), 1)
        stored, scale, zero_point = (self.constants.get(name) for name in maker.input)
        assert scale is not None
        assert zero_point is not None
        return Dequantised(scale, zero_point, stored, axis)

    def source(self, value: str) -> str:
        """Return the value that was quantised where this one is what a pair of Q and DQ gives, else itself."""
        for kind in ("DequantizeLinear", "QuantizeLinear"):
            maker = self.makers.get(value)
            if maker is None or maker.op_type != kind:
                return value
            value = maker.input[0]
        return value

    def upstream(self, value: str) -> set[str]:
        """Return the kinds of all nodes that a value depends on."""
        found: set[str] = set()
        pending, seen = [value], set()
        while pending:
            maker = self.makers.get(pending.pop())
            if maker is not None and maker.output[0] not in seen:
                seen.add(maker.output[0])
                found.add(maker.op_type)
                pending.extend(maker.input)
        return found
