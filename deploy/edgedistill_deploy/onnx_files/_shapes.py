"""The shapes of a graph's values for one image, as far as the operators of image classifiers tell.

A rule takes a node whose inputs have known shapes and returns the shapes of its outputs. Where there is no rule, or an
input is not known, neither is the output. A rule that meets a node that no runtime would take raises anything.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgedistill_deploy.onnx_files.wire import MOST_AXES

Shape = tuple[int, ...]
Ints = tuple[int, ...]

# Their outputs have the shape of their first input.
# fmt: off
_ALIKE = frozenset({
    "Abs", "BatchNormalization", "Cast", "Ceil", "Clip", "Cos", "CumSum", "DequantizeLinear", "Dropout", "Elu",
    "Erf", "Exp", "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "LpNormalization",
    "Mish", "Neg", "Not", "PRelu", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign",
    "Sin", "Softmax", "Softplus", "Softsign", "Sqrt", "Tanh"
})
_BROADCAST = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min",
    "Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"
})
# fmt: on
_REDUCED_BY = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_REDUCTIONS = frozenset(f"Reduce{each}" for each in _REDUCED_BY)
_LARGEST = 1 << 63  # of a size or a number; a runtime holds them in 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A node with what is known of it: its integer attributes, and the shapes and numbers of its inputs.

    `numbers` are the values of inputs that are short rows of whole numbers, such as a new shape. `given` says which
    inputs there are: one that may be left out can have an empty name.
    """

    operator: str
    attributes: Mapping[str, Ints] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[Shape | None, ...] = ()
    numbers: tuple[Ints | None, ...] = ()
    given: tuple[bool, ...] = ()
    output_count: int = 1

    def one(self, name: str, default: int) -> int:
        """Return an attribute of one number."""
        return self.attributes.get(name, (default,))[0]

    def shape(self, place: int = 0) -> Shape:
        """Return the shape of an input. Raises ValueError where it is not known."""
        found = self.shapes[place] if place < len(self.shapes) else None
        if found is None:
            raise ValueError("the shape is not known")
        return found

    def row(self, place: int, name: str = "") -> Ints | None:
        """Return numbers that older operators have as an attribute, and newer ones as an input; None without them.

        Raises ValueError where there is such an input and its numbers are not known.
        """
        if place < len(self.numbers) and self.given[place]:
            return _known(self.numbers[place])
        return self.attributes.get(name)

    def row_or_fail(self, place: int, name: str = "") -> Ints:
        """Return what `row` does. Raises ValueError where it is not known."""
        found = self.row(place, name)
        if found is None:
            raise ValueError("the numbers are not known")
        return found


def find_shapes(step: Step) -> tuple[Shape | None, ...]:
    """Return the shapes of a node's outputs, None where they are not known."""
    unknown = (None,) * step.output_count
    try:
        found = _split(step) if step.operator == "Split" else (_first_shape(step), *unknown[1:])
    except (ValueError, IndexError, KeyError, OverflowError, ZeroDivisionError, TypeError):
        return unknown
    return tuple(shape if shape is not None and is_sound(shape) else None for shape in found)


def is_sound(row: Ints) -> bool:
    """Return whether a runtime can hold these sizes."""
    return len(row) <= MOST_AXES and all(0 <= size < _LARGEST for size in row)


def _first_shape(step: Step) -> Shape | None:
    if step.operator in _ALIKE:
        return step.shape()
    if step.operator in _BROADCAST:
        return np.broadcast_shapes(*map(step.shape, range(len(step.shapes))))
    if step.operator in _REDUCTIONS:
        return _reduce(step)
    rule = _RULES.get(step.operator)
    return None if rule is None else rule(step)


def count_multiply_adds(step: Step, output: Shape | None) -> int:
    """Return the multiply-adds of a convolution or product whose output has this shape; 0 for other operators."""
    try:
        if output is None or step.operator not in _PRODUCTS:
            return 0
        return math.prod(output) * _PRODUCTS[step.operator](step)
    except (ValueError, IndexError, KeyError, ZeroDivisionError):
        return 0


def _inner_of_gemm(step: Step) -> int:
    return step.shape()[0 if step.one("transA", 0) else 1]


def _inner_of_transposed(step: Step) -> int:
    weight, image = step.shape(1), step.shape()
    strides = step.attributes.get("strides", (1,) * (len(image) - 2))
    return max(1, weight[0] * math.prod(weight[2:]) // max(1, step.one("group", 1) * math.prod(strides)))


# The multiply-adds of one number of the output.
_PRODUCTS: Mapping[str, Callable[[Step], int]] = {
    "Conv": lambda step: math.prod(step.shape(1)[1:]),
    "ConvInteger": lambda step: math.prod(step.shape(1)[1:]),
    "ConvTranspose": _inner_of_transposed,
    "Gemm": _inner_of_gemm,
    "MatMul": lambda step: step.shape()[-1],
    "MatMulInteger": lambda step: step.shape()[-1],
}


def _convolve(step: Step) -> Shape:
    kernel = step.shape(1)[2:]
    return (step.shape()[0], step.shape(1)[0], *_slide(step, kernel))


def _pool(step: Step) -> Shape:
    return (*step.shape()[:2], *_slide(step, step.attributes["kernel_shape"]))


def _slide(step: Step, kernel: Ints) -> Shape:
    """Return the spatial sizes after a window has moved over an image."""
    sizes, axes = step.shape()[2:], len(kernel)
    strides, dilations = (step.attributes.get(name, (1,) * axes) for name in ("strides", "dilations"))
    if step.texts.get("auto_pad", "NOTSET").startswith("SAME"):
        return tuple(-(-size // stride) for size, stride in zip(sizes, strides, strict=True))
    pads = step.attributes.get("pads", (0,) * (2 * axes))
    free = [
        size + pads[axis] + pads[axis + axes] - dilations[axis] * (kernel[axis] - 1) - 1
        for axis, size in enumerate(sizes)
    ]
    return tuple(
        _window_count(room, stride, sizes[axis] + pads[axis], step.one("ceil_mode", 0))
        for axis, (room, stride) in enumerate(zip(free, strides, strict=True))
    )


def _window_count(room: int, stride: int, begin: int, rounds_up: int) -> int:
    """Return how many windows fit; the last one must begin before `begin`, the end of the image."""
    count = (-(-room // stride) if rounds_up else room // stride) + 1
    return max(0, count - 1 if rounds_up and (count - 1) * stride >= begin else count)


def _convolve_back(step: Step) -> Shape:
    sizes, weight = step.shape()[2:], step.shape(1)
    axes = len(sizes)
    strides, dilations = (step.attributes.get(name, (1,) * axes) for name in ("strides", "dilations"))
    pads, extra = step.attributes.get("pads", (0,) * (2 * axes)), step.attributes.get("output_padding", (0,) * axes)
    spatial = (
        strides[axis] * (size - 1)
        + extra[axis]
        + dilations[axis] * (weight[2 + axis] - 1)
        + 1
        - pads[axis]
        - pads[axis + axes]
        for axis, size in enumerate(sizes)
    )
    if step.texts.get("auto_pad", "NOTSET").startswith("SAME"):
        spatial = (size * stride for size, stride in zip(sizes, strides, strict=True))
    given = step.attributes.get("output_shape")
    return (step.shape()[0], weight[1] * step.one("group", 1), *(given[-axes:] if given else spatial))


def _multiply(step: Step) -> Shape:
    left, right = step.shape(), step.shape(1)
    if len(left) < 2 or len(right) < 2:
        return (*left[:-1], *(*right[:-2], *right[-1:])) if len(left) < 2 <= len(right) else left[:-1]
    return (*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1])


def _gemm(step: Step) -> Shape:
    return step.shape()[1 if step.one("transA", 0) else 0], step.shape(1)[0 if step.one("transB", 0) else 1]


def _reshape(step: Step) -> Shape:
    shape, wanted = step.shape(), step.row_or_fail(1, "shape")
    keeps = not step.one("allowzero", 0)
    sizes = [shape[axis] if size == 0 and keeps else size for axis, size in enumerate(wanted)]
    if -1 in sizes:
        sizes[sizes.index(-1)] = math.prod(shape) // math.prod(size for size in sizes if size != -1)
    return tuple(sizes)


def _transpose(step: Step) -> Shape:
    shape = step.shape()
    return tuple(shape[axis] for axis in step.attributes.get("perm", tuple(reversed(range(len(shape))))))


def _flatten(step: Step) -> Shape:
    shape, axis = step.shape(), step.one("axis", 1)
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _concatenate(step: Step) -> Shape:
    shapes, sizes = [step.shape(place) for place in range(len(step.shapes))], list(step.shape())
    axis = step.one("axis", 0)
    sizes[axis] = sum(shape[axis] for shape in shapes)
    return tuple(sizes)


def _reduce(step: Step) -> Shape:
    shape, axes = step.shape(), step.row(1, "axes")
    gone = {axis % len(shape) for axis in axes or (() if step.one("noop_with_empty_axes", 0) else range(len(shape)))}
    keeps = step.one("keepdims", 1)
    return tuple(1 if axis in gone else size for axis, size in enumerate(shape) if keeps or axis not in gone)


def _squeeze(step: Step) -> Shape:
    shape, axes = step.shape(), step.row(1, "axes")
    gone = (
        {axis for axis, size in enumerate(shape) if size == 1} if axes is None else {axis % len(shape) for axis in axes}
    )
    return tuple(size for axis, size in enumerate(shape) if axis not in gone)


def _unsqueeze(step: Step) -> Shape:
    shape, axes = list(step.shape()), step.row_or_fail(1, "axes")
    for axis in sorted(axis % (len(shape) + len(axes)) for axis in axes):
        shape.insert(axis, 1)
    return tuple(shape)


def _gather(step: Step) -> Shape:
    shape, axis = step.shape(), step.one("axis", 0) % len(step.shape())
    return (*shape[:axis], *step.shape(1), *shape[axis + 1 :])


def _slice(step: Step) -> Shape:
    shape, starts, ends = list(step.shape()), step.row_or_fail(1, "starts"), step.row_or_fail(2, "ends")
    axes = step.row(3, "axes") or tuple(range(len(starts)))
    steps = step.row(4) or (1,) * len(starts)
    for axis, *limits in zip(axes, starts, ends, steps, strict=True):
        shape[axis] = len(range(shape[axis])[slice(*limits)])
    return tuple(shape)


def _split(step: Step) -> tuple[Shape | None, ...]:
    shape, axis = step.shape(), step.one("axis", 0) % len(step.shape())
    part = -(-shape[axis] // step.output_count)
    equal = (*(part,) * (step.output_count - 1), shape[axis] - part * (step.output_count - 1))
    sizes = step.row(1, "split") or equal
    return tuple((*shape[:axis], size, *shape[axis + 1 :]) for size in sizes)


def _pad(step: Step) -> Shape:
    shape, pads = step.shape(), step.row_or_fail(1, "pads")
    if len(step.shapes) > 3:
        raise ValueError("only some axes are padded")
    return tuple(size + pads[axis] + pads[axis + len(shape)] for axis, size in enumerate(shape))


def _resize(step: Step) -> Shape:
    return step.row_or_fail(3)


def _pool_whole(step: Step) -> Shape:
    shape = step.shape()
    return (*shape[:2], *(1,) * (len(shape) - 2))


_RULES: Mapping[str, Callable[[Step], Shape]] = {
    "AveragePool": _pool,
    "Concat": _concatenate,
    "ConstantOfShape": lambda step: step.row_or_fail(0),
    "Conv": _convolve,
    "ConvInteger": _convolve,
    "ConvTranspose": _convolve_back,
    "Expand": lambda step: np.broadcast_shapes(step.shape(), step.row_or_fail(1)),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _pool_whole,
    "GlobalMaxPool": _pool_whole,
    "MatMul": _multiply,
    "MatMulInteger": _multiply,
    "MaxPool": _pool,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": lambda step: (len(step.shape()[slice(step.one("start", 0), step.attributes.get("end", (None,))[0])]),),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": lambda step: tuple(size * count for size, count in zip(step.shape(), step.row_or_fail(1), strict=True)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}


def find_numbers(step: Step) -> Ints | None:
    """Return the values of a node's output where it computes a short row of whole numbers, as of a new shape."""
    try:
        if step.operator == "Shape":
            return step.shape()[slice(step.one("start", 0), step.attributes.get("end", (None,))[0])]
        rows = [_known(row) for row in step.numbers]
        if step.operator in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"):
            return rows[0]
        if step.operator == "Concat":
            return tuple(value for row in rows for value in row)
        if step.operator == "Gather":
            return tuple(rows[0][place] for place in rows[1])
        if step.operator == "Slice":
            return rows[0][slice(rows[1][0], rows[2][0], rows[4][0] if len(rows) > 4 else None)]
        return _calculate(step.operator, rows)
    except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError):
        return None


def _known(row: Ints | None) -> Ints:
    if row is None:
        raise ValueError("the numbers are not known")
    return row


def _calculate(operator: str, rows: Sequence[Ints]) -> Ints | None:
    rules: Mapping[str, Callable[[int, int], int]] = {
        "Add": lambda one, other: one + other,
        "Sub": lambda one, other: one - other,
        "Mul": lambda one, other: one * other,
        "Div": lambda one, other: int(one / other),
    }
    if operator not in rules or len(rows) != 2:
        return None
    length = max(map(len, rows))
    one, other = (row * length if len(row) == 1 else row for row in rows)
    found = tuple(rules[operator](*pair) for pair in zip(one, other, strict=True))
    return found if all(abs(value) < _LARGEST for value in found) else None
