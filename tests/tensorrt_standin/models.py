"""Small models with a bundle's interface, in each precision, of the form that TensorRT's networks are built from."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES, CHANNELS = 8, 3, 4
WEIGHTED_NODES = ("conv_1", "conv_2", "head")


def images(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


def write_network(
    path: Path,
    precision: str = "fp32",
    *,
    first: str = "Cast",
    plugin: bool = False,
    batch: int | str = "batch",
    width: int | str = SIZE,
) -> Path:
    """Write image -> two convolutions -> logits, in_domain; `first` is the node that reads the pixels."""
    builder = _Builder(np.float16 if precision == "fp16" else np.float32, precision.startswith("int8"))
    builder.prepare(first)
    builder.convolve("conv_1", "prepared", 3, CHANNELS)
    builder.convolve("conv_2", "conv_1_relu", CHANNELS, CHANNELS)
    builder.classify("conv_2_relu")
    if plugin:
        builder.nodes.append(helper.make_node("Sparkle", ["logits"], ["spark"], name="sparkle", domain="acme"))
    onnx.save(builder.model(plugin, batch, width), path)
    return path


class _Builder:
    def __init__(self, dtype: type[np.floating], quantised: bool) -> None:
        self.dtype = dtype
        self.quantised = quantised
        self.kind = TensorProto.FLOAT16 if dtype is np.float16 else TensorProto.FLOAT
        self.random = np.random.default_rng(3)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def prepare(self, first: str) -> None:
        scale = self.constant("scale", np.full(1, 1 / 255, self.dtype))
        if first == "Cast":
            self.node("Cast", ["image"], "cast", "to_float", to=self.kind)
            self.node("Transpose", ["cast"], "planes", "to_planes", perm=[0, 3, 1, 2])
        else:
            self.node("Transpose", ["image"], "turned", "to_planes", perm=[0, 3, 1, 2])
            self.node("Cast", ["turned"], "planes", "to_float", to=self.kind)
        self.node("Mul", ["planes", scale], "prepared", "to_unit")

    def convolve(self, name: str, source: str, inside: int, outside: int) -> None:
        weight = self.random.normal(0, 0.4, (outside, inside, 3, 3))
        factors = [self.activation(name, source, 1 / 40), self.weight(name, weight)]
        bias = self.constant(f"{name}_bias", self.random.normal(0, 0.1, outside).astype(self.dtype))
        self.node("Conv", [*factors, bias], f"{name}_out", name, pads=[1, 1, 1, 1])
        self.node("Relu", [f"{name}_out"], f"{name}_relu", f"{name}_relu")

    def classify(self, source: str) -> None:
        self.node("GlobalAveragePool", [source], "pooled", "pool")
        self.node("Flatten", ["pooled"], "features", "flatten")
        weight = self.random.normal(0, 1, (CHANNELS, CLASSES))
        factors = [self.activation("head", "features", 1 / 40), self.weight("head", weight)]
        wide = self.kind == TensorProto.FLOAT
        self.node("MatMul", factors, "logits" if wide else "narrow_logits", "head")
        if not wide:
            self.node("Cast", ["narrow_logits"], "logits", "to_wide", to=TensorProto.FLOAT)
        self.node("ReduceMax", ["logits"], "best", "best", keepdims=0, axes=[1])
        self.node("Greater", ["best", self.constant("threshold", np.array(0.2, np.float32))], "in_domain", "judge")

    def activation(self, name: str, source: str, scale: float) -> str:
        return self._through_int8(f"{name}_input", source, scale) if self.quantised else source

    def weight(self, name: str, values: NDArray[np.float64]) -> str:
        if not self.quantised:
            return self.constant(f"{name}_weight", values.astype(self.dtype))
        scale = float(np.abs(values).max()) / 127
        stored = self.constant(f"{name}_weight", np.round(values / scale).astype(np.int8))
        self._scale(f"{name}_weight", scale)
        pair = [f"{name}_weight_scale", f"{name}_weight_zero"]
        return self.node("DequantizeLinear", [stored, *pair], f"{name}_weight_float", f"{name}_weight_dequantize")

    def _through_int8(self, name: str, source: str, scale: float) -> str:
        self._scale(name, scale)
        pair = [f"{name}_scale", f"{name}_zero"]
        self.node("QuantizeLinear", [source, *pair], f"{name}_int8", f"{name}_quantize")
        return self.node("DequantizeLinear", [f"{name}_int8", *pair], f"{name}_float", f"{name}_dequantize")

    def _scale(self, name: str, scale: float) -> None:
        self.constant(f"{name}_scale", np.array(scale, self.dtype))
        self.constant(f"{name}_zero", np.array(0, np.int8))

    def model(self, plugin: bool, batch: int | str, width: int | str) -> onnx.ModelProto:
        outputs = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES]),
            helper.make_tensor_value_info("in_domain", TensorProto.BOOL, [batch]),
        ]
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, SIZE, width, 3])
        graph = helper.make_graph(self.nodes, "small", [image], outputs, initializer=self.constants)
        opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid("acme", 1)] if plugin else [])
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)
