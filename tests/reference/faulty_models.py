"""Faults planted into ONNX files, each in one node, so that it is known which node must be found."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    node: onnx.NodeProto = next(each for each in model.graph.node if each.name == name)
    return node


def _change(model: onnx.ModelProto, name: str, factor: float, shift: float = 0.0) -> None:
    tensor = next(each for each in model.graph.initializer if each.name == name)
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((array * factor + shift).astype(array.dtype), name))


def scale_weight(source: Path, path: Path, node: str, factor: float) -> Path:
    """Scale the weight of a node; of an INT8 weight, its scale."""
    model = onnx.load(source)
    weight = _node(model, node).input[1]
    maker = next((each for each in model.graph.node if weight in each.output), None)
    _change(model, maker.input[1] if maker else weight, factor)
    onnx.save(model, path)
    return path


def shift_zero_point(source: Path, path: Path, dequantiser: str, steps: int) -> Path:
    """Let a DequantizeLinear read another zero point than its QuantizeLinear wrote with."""
    model = onnx.load(source)
    node = _node(model, dequantiser)
    tensor = next(each for each in model.graph.initializer if each.name == node.input[2])
    array = numpy_helper.to_array(tensor)
    moved = np.clip(array.astype(np.int64) + steps, np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    model.graph.initializer.append(numpy_helper.from_array(moved.astype(array.dtype), "moved_zero_point"))
    node.input[2] = "moved_zero_point"
    onnx.save(model, path)
    return path


def divide_by_zero(source: Path, path: Path, value: str) -> Path:
    """Put a node called `broken` behind a value, which divides it by zero, and call its result by the value's name."""
    model = onnx.load(source)
    place, maker = next((i, each) for i, each in enumerate(model.graph.node) if value in each.output)
    maker.output[:] = [f"{value}_before" if name == value else name for name in maker.output]
    model.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    model.graph.node.insert(place + 1, helper.make_node("Div", [f"{value}_before", "nothing"], [value], name="broken"))
    onnx.save(model, path)
    return path


def hide_fault(source: Path, path: Path, node: str, factor: float) -> Path:
    """Scale a Conv's weight and bias, and divide its result again behind the Relu that reads it."""
    model = onnx.load(source)
    faulty = _node(model, node)
    for name in faulty.input[1:]:
        _change(model, name, factor)
    place, rectifier = next((i, each) for i, each in enumerate(model.graph.node) if faulty.output[0] in each.input)
    value = rectifier.output[0]
    rectifier.output[0] = f"{value}_large"
    model.graph.initializer.append(numpy_helper.from_array(np.array(factor, np.float32), "factor"))
    model.graph.node.insert(place + 1, helper.make_node("Div", [f"{value}_large", "factor"], [value], name="healer"))
    onnx.save(model, path)
    return path
