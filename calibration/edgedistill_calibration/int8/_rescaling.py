"""Gives a quantised graph other ranges, instead of quantising the float graph again.

ONNX Runtime's quantiser quantises weights channel by channel, in Python: some seconds for a file. Only the scales of
the activations depend on the ranges, and through them the biases, so the other candidates are made from the first.
Where a bias is so large beside the scales that it would not fit 32 bits, the quantiser widens the scale of the weights
of that channel. Trained networks with channels that give nearly always the same have such biases.
"""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgedistill_calibration.ranges.measurement import Ranges

_SUFFIX = "_QuantizeLinear_Input"  # of a graph's output that is quantised, before its Q/DQ
_QUANTISED = "_quantized"  # of a constant in INT8
# A bias above it may make the quantiser widen the scales of the weights. It does so at twice this.
_LARGEST_BIAS = 1 << 30
# What the quantiser leaves between a bias and the end of 32 bits, and how many steps they have.
_MARGIN = 1.0001
_STEPS = np.float64((1 << 32) - 2)
_LEAST, _MOST = -128, 127  # of INT8

Constants = Mapping[str, onnx.TensorProto]


def rescale(
    quantised: onnx.ModelProto, ranges: Ranges, floats: Constants, *, symmetric: bool
) -> onnx.ModelProto | None:
    """Return a quantised graph as ONNX Runtime's quantiser writes it for other ranges; None where that is not sure.

    Args:
        quantised: by `onnxruntime.quantization.quantize_static`, for ranges of the same values.
        ranges: of every quantised value.
        floats: the constants of the float graph, by name.
        symmetric: whether the zero points of activations are 0.
    """
    model = copy.deepcopy(quantised)
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            value = node.input[0].removesuffix(_SUFFIX)
            if value not in ranges or not {*node.input[1:3]} <= constants.keys():
                return None
            _replace(constants, node, _scale(ranges[value], constants[node.input[2]], symmetric=symmetric))
    if any(each.name == "beta" and each.f != 1 for node in model.graph.node for each in node.attribute):
        return None  # it is part of the bias's scale
    before = {each.name: each for each in quantised.graph.initializer}
    for bias in _biases(model.graph, constants):
        if bias.source not in floats or not (bias.has_scale(before) and bias.has_scale(constants)):
            return None
        tight = np.flatnonzero(bias.tight(before, floats) | bias.tight(constants, floats))
        if tight.size and not bias.widen(tight, before, constants, floats):
            return None
        bias.write(constants, floats)
    return model


def _scale(
    bounds: tuple[float, float], zero_point: onnx.TensorProto, *, symmetric: bool
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return scale and zero point of a range, by ONNX Runtime's own function."""
    from onnxruntime.quantization.quant_utils import compute_scale_zp, get_qmin_qmax_for_qType

    least, most = get_qmin_qmax_for_qType(zero_point.data_type, reduce_range=False, symmetric=symmetric)
    low, high = (np.array(bound, np.float32) for bound in bounds)
    zero, scale = compute_scale_zp(low, high, least, most, symmetric)
    return np.asarray(scale), np.asarray(zero)


def _replace(constants: Constants, node: onnx.NodeProto, made: tuple[NDArray[np.generic], NDArray[np.generic]]) -> None:
    for name, value in zip(node.input[1:3], made, strict=True):
        old = numpy_helper.to_array(constants[name])
        constants[name].CopyFrom(numpy_helper.from_array(value.astype(old.dtype).reshape(old.shape), name))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Weights in INT8 with a scale for each channel; the fields are names of constants."""

    source: str  # the float weights
    quantised: str
    scale: str
    zero_point: str
    axis: int  # of the channels

    def fits(self, constants: Constants, floats: Constants) -> bool:
        """Say whether these are symmetric weights, by channel, of a float constant."""
        if self.source not in floats:
            return False
        dims = list(floats[self.source].dims)
        zero_point = constants[self.zero_point]
        return (
            list(constants[self.quantised].dims) == dims
            and -len(dims) <= self.axis < len(dims)
            and list(constants[self.scale].dims) == [dims[self.axis]]
            and zero_point.data_type == onnx.TensorProto.INT8
            and not numpy_helper.to_array(zero_point).any()
        )

    def widened(
        self,
        channels: NDArray[np.intp],
        bias: NDArray[np.float32],
        input_scale: float,
        constants: Constants,
        floats: Constants,
    ) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """Return the scales and the weights, with these channels quantised as the quantiser does for an input scale."""
        weights = np.moveaxis(numpy_helper.to_array(floats[self.source]), self.axis, 0)
        scales = numpy_helper.to_array(constants[self.scale]).copy()
        quantised = numpy_helper.to_array(constants[self.quantised]).copy()
        rows = np.moveaxis(quantised, self.axis, 0)
        for channel in channels:
            row = weights[channel]
            plain, _ = _scale((float(row.min()), float(row.max())), constants[self.zero_point], symmetric=True)
            scales[channel] = _widen(float(plain), bias[channel], input_scale)
            rows[channel] = np.clip((row / scales[channel]).round(), _LEAST, _MOST)
        return scales, quantised

    def equal(self, constants: Constants, made: tuple[NDArray[np.float32], NDArray[np.int8]]) -> bool:
        """Say whether these are the scales and the weights."""
        return all(
            np.array_equal(numpy_helper.to_array(constants[name]), value)
            for name, value in ((self.scale, made[0]), (self.quantised, made[1]))
        )

    def replace(self, constants: Constants, made: tuple[NDArray[np.float32], NDArray[np.int8]]) -> None:
        """Put other scales and weights in place."""
        constants[self.scale].CopyFrom(numpy_helper.from_array(made[0], self.scale))
        constants[self.quantised].CopyFrom(numpy_helper.from_array(made[1], self.quantised))


def _widen(scale: float, bias: np.float32, input_scale: float) -> float:
    """Return the scale of a channel's weights with which its bias fits 32 bits."""
    least = _MARGIN * (2.0 * np.abs(bias)) / _STEPS  # in the types and the order of ONNX Runtime's quantiser
    made = input_scale * scale
    return float(scale * (least / made)) if 0 < made < least else scale


class _Bias:
    """A quantised bias: its scale is that of the values a node reads, times those of its weights."""

    def __init__(self, source: str, names: tuple[str, str], input_scale: str, weights: _Weights) -> None:
        self.source = source  # the float constant
        self._names = names  # of the quantised bias and its scale
        self._input_scale = input_scale  # of the values that the node reads
        self._weights = weights

    def _scale(self, constants: Constants) -> NDArray[np.float32]:
        one, other = (numpy_helper.to_array(constants[name]) for name in (self._input_scale, self._weights.scale))
        scale: NDArray[np.float32] = (one * other).reshape(-1)
        return scale

    def _quantised(self, constants: Constants, floats: Constants) -> NDArray[np.float64]:
        bias = numpy_helper.to_array(floats[self.source]).astype(np.float64)
        quantised: NDArray[np.float64] = (bias / self._scale(constants).astype(np.float64)).round()
        return quantised

    def has_scale(self, constants: Constants) -> bool:
        """Say whether no scale of it is zero."""
        return bool((self._scale(constants) > 0).all())

    def tight(self, constants: Constants, floats: Constants) -> NDArray[np.bool_]:
        """Return for each channel whether its scale may have to be widened."""
        tight: NDArray[np.bool_] = np.abs(self._quantised(constants, floats)) >= _LARGEST_BIAS
        return tight

    def widen(self, channels: NDArray[np.intp], before: Constants, constants: Constants, floats: Constants) -> bool:
        """Give these channels of the weights the scales that the quantiser gives them.

        False where that is not sure: the constants `before` are not what is made of these channels here.
        """
        weights = self._weights
        if not weights.fits(before, floats):
            return False
        bias = numpy_helper.to_array(floats[self.source])
        known, made = (
            weights.widened(channels, bias, numpy_helper.to_array(each[self._input_scale]).item(), before, floats)
            for each in (before, constants)
        )
        if not weights.equal(before, known):
            return False
        weights.replace(constants, made)
        return True

    def write(self, constants: Constants, floats: Constants) -> None:
        """Put it and its scale in place."""
        for name, value in zip(
            self._names, (self._quantised(constants, floats).astype(np.int32), self._scale(constants)), strict=True
        ):
            old = constants[name]
            constants[name].CopyFrom(numpy_helper.from_array(value.reshape(tuple(old.dims)), name))


def _biases(graph: onnx.GraphProto, constants: Constants) -> Iterator[_Bias]:
    """Yield the quantised biases of a graph."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        read = [makers.get(name) for name in node.input[:3]]
        if len(read) < 3 or any(each is None or each.op_type != "DequantizeLinear" for each in read):
            continue
        value, weight, bias = (each for each in read if each is not None)
        if bias.input[0] in constants and constants[bias.input[0]].data_type == onnx.TensorProto.INT32:
            yield _Bias(bias.output[0], (bias.input[0], bias.input[1]), value.input[1], _weights(weight))


def _weights(node: onnx.NodeProto) -> _Weights:
    """Return the weights that a DequantizeLinear gives."""
    quantised, scale, zero_point = node.input
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    return _Weights(
        source=quantised.removesuffix(_QUANTISED), quantised=quantised, scale=scale, zero_point=zero_point, axis=axis
    )
