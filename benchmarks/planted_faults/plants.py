"""Faults as changes of an ONNX graph: before the first layer, behind the logits, and in the weights.

They work on the float file and on the INT8 files alike, because calibration keeps the names of values.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.planted_faults.experts import MEAN, SIDE, STD
from reference.planted_faults import Plant, constant, initializer, insert_after, replace_weight

PIXELS, NORMALISED, LOGITS = "/normalise/Cast_output_0", "/normalise/Add_output_0", "logits"
HEAD = "model.head.weight"
INNER = "model.stages.1.conv1.weight"

_ACROSS, _DOWN, _CHANNELS = 2, 1, 3  # the axes of the pixels (N, H, W, 3)

Step = tuple[str, object]  # an operator and its constant
Order = Sequence[int] | NDArray[np.int64]


def chain_behind(value: str, *steps: Step) -> Plant:
    """Compute steps such as ("Mul", 2.0) on a value, one after another."""

    def plant(model: onnx.ModelProto) -> None:
        names = [f"{value}_before", *(f"{value}_step_{number}" for number in range(len(steps) - 1)), value]
        nodes = []
        for number, (operator, factor) in enumerate(steps):
            added = constant(model, f"{value}_factor_{number}", np.asarray(factor, np.float32))
            node = helper.make_node(operator, [names[number], added], [names[number + 1]])
            if operator == "Mod":
                node.attribute.append(helper.make_attribute("fmod", 1))
            nodes.append(node)
        insert_after(model, value, nodes)

    return plant


def gathered(value: str, axis: int, order: Order) -> Plant:
    """Take the places `order` of an axis of a value."""

    def plant(model: onnx.ModelProto) -> None:
        name = constant(model, f"{value}_order_{axis}", np.asarray(order, np.int64))
        insert_after(model, value, [helper.make_node("Gather", [f"{value}_before", name], [value], axis=axis)])

    return plant


def both_ways(order: Order) -> Plant:
    """Take the same rows and columns of the image."""

    def plant(model: onnx.ModelProto) -> None:
        names = [constant(model, f"places_{axis}", np.asarray(order, np.int64)) for axis in (_DOWN, _ACROSS)]
        nodes = [
            helper.make_node("Gather", [f"{PIXELS}_before", names[0]], ["rows_taken"], axis=_DOWN),
            helper.make_node("Gather", ["rows_taken", names[1]], [PIXELS], axis=_ACROSS),
        ]
        insert_after(model, PIXELS, nodes)

    return plant


def turned(model: onnx.ModelProto) -> None:
    """Turn the image by a quarter."""
    name = constant(model, "backwards", np.arange(SIDE)[::-1].copy())
    nodes = [
        helper.make_node("Transpose", [f"{PIXELS}_before"], ["flipped_axes"], perm=[0, 2, 1, 3]),
        helper.make_node("Gather", ["flipped_axes", name], [PIXELS], axis=_DOWN),
    ]
    insert_after(model, PIXELS, nodes)


def transposed(model: onnx.ModelProto) -> None:
    insert_after(model, PIXELS, [helper.make_node("Transpose", [f"{PIXELS}_before"], [PIXELS], perm=[0, 2, 1, 3])])


def greyed(model: onnx.ModelProto) -> None:
    """Make the image grey, as a camera or a decoder without colour does."""
    weights = np.repeat(np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=1)
    name = constant(model, "luminance", weights)
    insert_after(model, PIXELS, [helper.make_node("MatMul", [f"{PIXELS}_before", name], [PIXELS])])


def softmaxed(model: onnx.ModelProto) -> None:
    insert_after(model, LOGITS, [helper.make_node("Softmax", [f"{LOGITS}_before"], [LOGITS], axis=1)])


def shift_class(index: int, amount: float, class_count: int) -> Plant:
    """Add to the logit of one class."""
    added = np.zeros(class_count, np.float32)
    added[index] = amount
    return chain_behind(LOGITS, ("Add", added))


def permuted(order: Sequence[int]) -> Plant:
    """Make logit i that of class order[i]."""
    return gathered(LOGITS, 1, order)


def rolled(axis: int, steps: int) -> Plant:
    """Shift the image around its edge."""
    return gathered(PIXELS, axis, np.roll(np.arange(SIDE), steps))


def _normalise(mean: Sequence[float], std: Sequence[float]) -> tuple[Step, Step]:
    column = (1, 3, 1, 1)
    return ("Sub", np.reshape(mean, column)), ("Div", np.reshape(std, column))


def _restore(mean: Sequence[float], std: Sequence[float]) -> tuple[Step, Step]:
    column = (1, 3, 1, 1)
    return ("Mul", np.reshape(std, column)), ("Add", np.reshape(mean, column))


def _places(start: int, length: int) -> NDArray[np.int64]:
    """Return the places of a cut of an axis, brought back to the full side without a filter."""
    return start + np.arange(SIDE) * length // SIDE


_EDGE = np.clip(np.arange(SIDE) - 4, 0, None)

# What is planted before the first layer, with the names that are right for it.
INPUT_FAULTS: dict[str, tuple[Plant, str]] = {
    "gamma 2.2": (chain_behind(PIXELS, ("Div", 255), ("Pow", 2.2), ("Mul", 255)), "other_gamma"),
    "gamma 0.5": (chain_behind(PIXELS, ("Div", 255), ("Pow", 0.5), ("Mul", 255)), "other_gamma"),
    "grey input": (greyed, "grey_input"),
    "blue before red": (gathered(PIXELS, _CHANNELS, [2, 1, 0]), "swapped_channels"),
    "channels go round": (gathered(PIXELS, _CHANNELS, [1, 2, 0]), "swapped_channels"),
    "shifted by 4 pixels": (rolled(_ACROSS, 4), "moved_pixels"),
    "shifted down by 3, edge repeated": (
        gathered(PIXELS, _DOWN, np.clip(np.arange(SIDE) - 3, 0, None)),
        "moved_pixels",
    ),
    "mirrored": (gathered(PIXELS, _ACROSS, np.arange(SIDE)[::-1].copy()), "moved_pixels"),
    "upside down": (gathered(PIXELS, _DOWN, np.arange(SIDE)[::-1].copy()), "moved_pixels"),
    "turned by a quarter": (turned, "moved_pixels"),
    "rows and columns changed": (transposed, "moved_pixels"),
    "cut to three quarters": (both_ways(_places(3, 18)), "moved_pixels"),
    "every second pixel": (both_ways(np.arange(SIDE) // 4 * 4), "moved_pixels"),
    "values wrapped at 256": (chain_behind(PIXELS, ("Mul", 2), ("Mod", 256)), "wrapped_pixels"),
    "values moved by 128": (chain_behind(PIXELS, ("Add", 128), ("Mod", 256)), "wrapped_pixels"),
    "normalised twice": (chain_behind(NORMALISED, *_normalise(MEAN, STD)), "double_normalisation"),
    "not normalised": (chain_behind(NORMALISED, *_restore(MEAN, STD)), "missing_normalisation"),
    "another mean and deviation": (
        chain_behind(NORMALISED, *_restore(MEAN, STD), *_normalise((0.1,) * 3, (0.6,) * 3)),
        "wrong_normalisation",
    ),
    "not divided by 255": (chain_behind(PIXELS, ("Mul", 255)), "pixels_not_scaled"),
    "divided by 255 twice": (chain_behind(PIXELS, ("Div", 255)), "pixels_scaled_twice"),
    "black and white inverted": (chain_behind(PIXELS, ("Mul", -1), ("Add", 255)), "inverted_pixels"),
}


def output_faults(class_count: int) -> dict[str, tuple[Plant, str]]:
    """Return what is planted behind the logits, with the names that are right for it."""
    swap, cycle = list(range(class_count)), list(range(class_count))
    swap[1], swap[4] = 4, 1
    cycle[0], cycle[2], cycle[5] = 2, 5, 0
    fixed = np.linspace(0, 1, class_count)
    return {
        "two classes interchanged": (permuted(swap), "permuted_classes"),
        "three classes go round": (permuted(cycle), "permuted_classes"),
        "all classes one further": (permuted(list(np.roll(range(class_count), 1))), "permuted_classes"),
        "3 added to one class": (shift_class(2, 3.0, class_count), "shifted_logits"),
        "a class is never answered": (shift_class(3, -1e4, class_count), "shifted_logits dead_class"),
        "Softmax behind the logits": (softmaxed, "softmax_behind_logits"),
        "constant answers": (chain_behind(LOGITS, ("Mul", 0), ("Add", fixed)), "constant_answers"),
    }


Change = Callable[[NDArray[np.float32]], object]


def in_weight(name: str, change: Change) -> Plant:
    """Change a copy of a weight."""
    return lambda model: replace_weight(model, name, change)


def _negate(values: NDArray[np.float32]) -> object:
    return np.negative(values, out=values)


def _draw_again(values: NDArray[np.float32]) -> None:
    values[...] = np.random.default_rng(3).normal(0, values.std(), values.shape)


def _blur(values: NDArray[np.float32]) -> None:
    values += np.random.default_rng(3).normal(0, 1.2 * values.std(), values.shape).astype(np.float32)


def _set_first(value: float) -> Change:
    return lambda values: values.reshape(-1).__setitem__(0, value)


FLOAT_WEIGHT_FAULTS: dict[str, tuple[Plant, str]] = {
    "a weight is not a number": (in_weight(INNER, _set_first(np.nan)), "damaged_weight"),
    "a weight is huge": (in_weight(INNER, _set_first(3e4)), "damaged_weight"),
    "a layer is zero": (in_weight(INNER, lambda values: values.fill(0)), "damaged_weight"),
    "a layer is drawn again": (in_weight(INNER, _draw_again), "damaged_weight"),
    "a layer's sign is flipped": (in_weight(HEAD, _negate), "damaged_weight"),
    "a layer's kernels are turned": (
        in_weight(INNER, lambda values: values.__setitem__(..., values[..., ::-1, ::-1].copy())),
        "damaged_weight",
    ),
    "noise on a layer": (in_weight(INNER, _blur), "damaged_weight"),
}


def in_tensor(change: Callable[[NDArray[Any]], NDArray[Any]], name: str) -> Plant:
    """Replace a tensor of any type."""

    def plant(model: onnx.ModelProto) -> None:
        tensor = initializer(model, name)
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(values)).astype(values.dtype), name))

    return plant


def in_tensors(change: Callable[[NDArray[Any]], NDArray[Any]], ending: str) -> Plant:
    """Replace every tensor whose name ends so."""

    def plant(model: onnx.ModelProto) -> None:
        for name in [each.name for each in model.graph.initializer if each.name.endswith(ending)]:
            in_tensor(change, name)(model)

    return plant


def _mix(values: NDArray[Any]) -> NDArray[Any]:
    return np.random.default_rng(5).permutation(values)


def _moved(values: NDArray[Any]) -> NDArray[Any]:
    wide = np.asarray(values, np.int64) + 40
    return np.asarray(np.clip(wide, 0, 255))


ACTIVATION = "/model/stages/stages.1/act1/Relu_output_0"
INT8_FAULTS: dict[str, tuple[Plant, str]] = {
    "weight scales shuffled": (in_tensor(_mix, f"{INNER}_scale"), "damaged_weight"),
    "weight scales zero": (in_tensor(np.zeros_like, f"{INNER}_scale"), "damaged_weight"),
    "scales of the last layer shuffled": (
        in_tensor(lambda values: values[::-1] ** 2, f"{HEAD}_scale"),
        "damaged_weight",
    ),
    "a layer's sign is flipped": (
        in_tensor(lambda values: -np.clip(values, -127, 127), f"{HEAD}_quantized"),
        "damaged_weight",
    ),
    "a layer is drawn again": (
        in_tensor(lambda values: _mix(values.ravel()).reshape(values.shape), f"{INNER}_quantized"),
        "damaged_weight",
    ),
    "a layer is zero": (in_tensor(np.zeros_like, f"{INNER}_quantized"), "damaged_weight"),
    "a bias is drawn again": (
        in_tensor(lambda values: _mix(values) * 3, "model.stages.2.conv2.bias_quantized"),
        "damaged_weight",
    ),
    "a zero point moved by 40": (in_tensor(_moved, f"{ACTIVATION}_zero_point"), "damaged_scale"),
    "all zero points moved by 40": (in_tensors(_moved, "_output_0_zero_point"), "damaged_scale"),
    "a scale eight times too small": (in_tensor(lambda values: values / 8, f"{ACTIVATION}_scale"), "damaged_scale"),
    "a scale thirty times too large": (in_tensor(lambda values: values * 30, f"{ACTIVATION}_scale"), "damaged_scale"),
}
