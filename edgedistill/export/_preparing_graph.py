"""Preparing a picture as nodes of an ONNX graph: scaling as Pillow does it, and cutting out the centre.

ONNX's own Resize is not used: with antialias, ONNX Runtime 1.32 is up to 11 levels from Pillow. Here each pass is a
product with a matrix of the filter's weights, which the graph computes from the size of the picture. Only what the cut
keeps is computed, from the part of the picture that it is made of. In double precision the sums are exact, as Pillow's
are in whole numbers; in single precision, ties were rounded differently.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from edgedistill_deploy.images.preprocess import Preprocess, least_size

IMAGE = "image"
_PREFIX = "any_size"
PREPARED = f"{_PREFIX}/prepared"
_UNIT = float(1 << 22)  # Pillow's weights are whole numbers of so many to 1
_REACH = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}  # of a filter, in pixels of the smaller picture


class _Steps:
    """Nodes in order, and the constants that they read. Calling it adds a node and returns the name of its output."""

    def __init__(self, constants: dict[str, TensorProto], name: str = _PREFIX) -> None:
        self.nodes: list[NodeProto] = []
        self.constants = constants
        self._name = name

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        made = output or f"{self._name}/{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [made], name=f"{made}/node", **attributes))
        return made

    def whole(self, *values: int) -> str:
        """Return the name of a constant, int64: a number for one value, else a row."""
        return self._constant(np.array(values if len(values) != 1 else values[0], np.int64))

    def row(self, *values: int) -> str:
        """Return the name of a row of int64, also for one value."""
        return self._constant(np.array(values, np.int64))

    def number(self, value: float) -> str:
        """Return the name of a number in double precision."""
        return self._constant(np.array(value, np.float64))

    def double(self, value: str) -> str:
        """Return a value in double precision."""
        return self("Cast", value, to=TensorProto.DOUBLE)

    def branch(self, name: str) -> "_Steps":
        """Return the steps of a branch, which may read all that was computed before it."""
        return _Steps(self.constants, f"{self._name}/{name}")

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"{_PREFIX}/{value.dtype}_{'_'.join(map(str, value.reshape(-1).tolist()))}_{value.ndim}"
        self.constants.setdefault(name, numpy_helper.from_array(value, name))
        return name


def preparing_nodes(preprocess: Preprocess, *, tall_first: bool) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the nodes from `image`, uint8 (1, height, width, 3), to `PREPARED`, uint8 (1, H, W, 3), and constants.

    `tall_first`: whether Pillow scales tall pictures vertically first (`preprocess.scales_tall_pictures_first`).
    """
    steps = _Steps({})
    shape = steps("Shape", IMAGE)
    height, width = (steps("Gather", shape, steps.whole(axis), axis=0) for axis in (1, 2))
    new_height, new_width = _scaled_size(steps, preprocess, height, width)
    rows, columns = (
        _Axis(steps, before, after, _margin(steps, after, kept), kept)
        for before, after, kept in zip((height, width), (new_height, new_width), preprocess.size, strict=True)
    )
    if preprocess.interpolation == "nearest":
        taken = steps("Gather", steps("Gather", IMAGE, rows.nearest(), axis=1), columns.nearest(), axis=2)
        steps("Identity", taken, output=PREPARED)
        return steps.nodes, [*steps.constants.values()]
    filters = [_Filter(axis, preprocess.interpolation) for axis in (rows, columns)]
    starts, ends = (steps("Concat", *each, axis=0) for each in zip(*(each.used for each in filters), strict=True))
    part = steps("Slice", IMAGE, starts, ends, steps.row(1, 2))
    planes = steps.double(steps("Transpose", part, perm=[0, 3, 1, 2]))
    down, across = filters[0].weights(), steps("Transpose", filters[1].weights(), perm=[1, 0])
    if tall_first:
        scaled = steps(
            "If",
            _is_tall(steps, height, width, new_height, new_width),
            then_branch=_branch(steps, "tall", planes, down, across, down_first=True),
            else_branch=_branch(steps, "wide", planes, down, across, down_first=False),
        )
    else:
        scaled = _scale(steps, planes, down, across, down_first=False)
    pixels = steps("Cast", scaled, to=TensorProto.UINT8)
    steps("Transpose", pixels, perm=[0, 2, 3, 1], output=PREPARED)
    return steps.nodes, [*steps.constants.values()]


def _scaled_size(steps: _Steps, preprocess: Preprocess, height: str, width: str) -> tuple[str, str]:
    """Return the size after scaling and before the cut, by whole numbers, as `Preprocess` does."""
    least_height, least_width = (steps.whole(side) for side in least_size(preprocess))
    if preprocess.resize_mode == "squash":
        return least_height, least_width
    # The shorter side gets its least size; the other one is no smaller than its own.
    tall = steps("Div", steps("Mul", least_width, height), width)
    wide = steps("Div", steps("Mul", least_height, width), height)
    return steps("Max", least_height, tall), steps("Max", least_width, wide)


def _margin(steps: _Steps, side: str, kept: int) -> str:
    """Return where the cut begins: half of what is left over, rounded half to even."""
    spare = steps("Sub", side, steps.whole(kept))
    half, odd = steps("Div", spare, steps.whole(2)), steps("Mod", spare, steps.whole(2))
    return steps("Add", half, steps("Mul", odd, steps("Mod", half, steps.whole(2))))


def _is_tall(steps: _Steps, height: str, width: str, new_height: str, new_width: str) -> str:
    """Return whether Pillow scales vertically first: the height shrinks, and by more than twice what the width does."""
    less_high, less_wide = steps("Sub", height, new_height), steps("Sub", width, new_width)
    shrinks = steps("Greater", less_high, steps.whole(0))
    return steps("And", shrinks, steps("Greater", less_high, steps("Mul", less_wide, steps.whole(2))))


def _branch(steps: _Steps, name: str, planes: str, down: str, across: str, *, down_first: bool) -> GraphProto:
    own = steps.branch(name)
    scaled = _scale(own, planes, down, across, down_first=down_first)
    return helper.make_graph(own.nodes, name, [], [helper.make_tensor_value_info(scaled, TensorProto.DOUBLE, None)])


def _scale(steps: _Steps, planes: str, down: str, across: str, *, down_first: bool) -> str:
    """Scale planes (1, 3, height, width) by the matrices (H, height) and (width, W), rounded after each pass."""
    if down_first:
        return _rounded(steps, steps("MatMul", _rounded(steps, steps("MatMul", down, planes)), across))
    return _rounded(steps, steps("MatMul", down, _rounded(steps, steps("MatMul", planes, across))))


def _rounded(steps: _Steps, values: str) -> str:
    nearest = steps("Floor", steps("Add", values, steps.number(0.5)))
    return steps("Clip", nearest, steps.number(0.0), steps.number(255.0))


class _Axis:
    """One axis: its size before and after scaling, and the first and the number of the new places that are kept."""

    def __init__(self, steps: _Steps, before: str, after: str, first: str, kept: int) -> None:
        self.steps = steps
        self.before, self._after, self.kept = before, after, kept
        self.places = steps("Add", steps.row(*range(kept)), first)
        self.scale = steps("Div", steps.double(before), steps.double(after))

    def nearest(self) -> str:
        """Return the old place of each new one, int64 (kept,), added up step by step as Pillow does."""
        steps = self.steps
        half = steps("Mul", self.scale, steps.number(0.5))
        every = steps("Range", steps.whole(0), self._after, steps.whole(1))
        jumps = steps("Where", steps("Equal", every, steps.whole(0)), half, self.scale)
        reached = steps("Gather", steps("CumSum", jumps, steps.whole(0)), self.places, axis=0)
        last = steps("Sub", self.before, steps.whole(1))
        return steps("Min", steps("Cast", reached, to=TensorProto.INT64), last)


class _Filter:
    """A filter along an axis. `used` are the first old place that has a weight and the end of them, int64 (1,) each."""

    def __init__(self, axis: _Axis, interpolation: str) -> None:
        steps = self._steps = axis.steps
        self._shape = _SHAPES[interpolation]
        half = steps.number(0.5)
        self._stretch = steps("Max", axis.scale, steps.number(1.0))
        reach = steps("Mul", self._stretch, steps.number(_REACH[interpolation]))
        self._centre = steps("Mul", steps("Add", steps.double(axis.places), half), axis.scale)
        begins = self._whole(steps("Add", steps("Sub", self._centre, reach), half))
        ends = self._whole(steps("Add", steps("Add", self._centre, reach), half))
        self._begins = steps("Max", begins, steps.whole(0))
        self._ends = steps("Min", ends, axis.before)
        self.used = (
            steps("Gather", self._begins, steps.row(0), axis=0),
            steps("Gather", self._ends, steps.row(axis.kept - 1), axis=0),
        )

    def weights(self) -> str:
        """Return what each old pixel that is used gives to each new one, double precision (kept, used)."""
        steps = self._steps
        start, end = (steps("Squeeze", each, steps.row(0)) for each in self.used)
        old = steps("Range", start, end, steps.whole(1))
        begins, ends, centre = (
            steps("Unsqueeze", each, steps.row(1)) for each in (self._begins, self._ends, self._centre)
        )
        inside = steps("And", steps("GreaterOrEqual", old, begins), steps("Less", old, ends))
        middle = steps("Add", steps.double(old), steps.number(0.5))
        distance = steps("Div", steps("Sub", middle, centre), self._stretch)
        raw = steps("Where", inside, self._shape(steps, distance), steps.number(0.0))
        share = steps("Div", raw, steps("ReduceSum", raw, steps.row(1), keepdims=1))
        away = steps("Mul", steps("Sign", share), steps.number(0.5))
        whole = self._whole(steps("Add", steps("Mul", share, steps.number(_UNIT)), away))
        return steps("Div", steps.double(whole), steps.number(_UNIT))

    def _whole(self, value: str) -> str:
        """Return a value without its fraction, int64."""
        return self._steps("Cast", value, to=TensorProto.INT64)


def _bilinear(steps: _Steps, distance: str) -> str:
    return steps("Max", steps("Sub", steps.number(1.0), steps("Abs", distance)), steps.number(0.0))


def _bicubic(steps: _Steps, distance: str) -> str:
    x = steps("Abs", distance)
    near = _polynomial(steps, x, (1.5, -2.5, 0.0, 1.0))
    far = _polynomial(steps, x, (-0.5, 2.5, -4.0, 2.0))
    outside = steps("Where", steps("Less", x, steps.number(2.0)), far, steps.number(0.0))
    return steps("Where", steps("Less", x, steps.number(1.0)), near, outside)


def _polynomial(steps: _Steps, x: str, coefficients: tuple[float, ...]) -> str:
    value = steps.number(coefficients[0])
    for each in coefficients[1:]:
        value = steps("Add", steps("Mul", value, x), steps.number(each))
    return value


def _lanczos(steps: _Steps, distance: str) -> str:
    reach = steps.number(_REACH["lanczos"])
    inside = steps("Less", steps("Abs", distance), reach)
    wave = steps("Mul", _sinc(steps, distance), _sinc(steps, steps("Div", distance, reach)))
    return steps("Where", inside, wave, steps.number(0.0))


def _sinc(steps: _Steps, x: str) -> str:
    is_centre = steps("Equal", x, steps.number(0.0))
    turn = steps("Where", is_centre, steps.number(1.0), steps("Mul", x, steps.number(np.pi)))
    return steps("Where", is_centre, steps.number(1.0), steps("Div", steps("Sin", turn), turn))


_SHAPES = {"bilinear": _bilinear, "bicubic": _bicubic, "lanczos": _lanczos}
