"""Gives a quantised graph other ranges, instead of quantising the float graph again.

ONNX Runtime's quantiser quantises weights channel by channel, in Python: some seconds for a file. Only the scales of
the activations depend on the ranges, and through them the biases, so the other candidates are made from the first.
"""

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgedistill_calibration.ranges.measurement import Ranges

_SUFFIX = "_QuantizeLinear_Input"  # of a graph's output that is quantised, before its Q/DQ
# A bias above it may make the quantiser widen the scales of the weights. It does so at twice this.
_LARGEST_BIAS = 1 << 30

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
        if bias.source not in floats or not (bias.fits(before, floats) and bias.fits(constants, floats)):
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


class _Bias:
    """A quantised bias: its scale is that of the values a node reads, times those of its weights."""

    def __init__(self, source: str, names: tuple[str, str], factors: tuple[str, str]) -> None:
        self.source = source  # the float constant
        self._names = names  # of the quantised bias and its scale
        self._factors = factors  # the scales of the values and of the weights

    def _scale(self, constants: Constants) -> NDArray[np.float32]:
        one, other = (numpy_helper.to_array(constants[name]) for name in self._factors)
        scale: NDArray[np.float32] = (one * other).reshape(-1)
        return scale

    def _quantised(self, constants: Constants, floats: Constants) -> NDArray[np.float64]:
        bias = numpy_helper.to_array(floats[self.source]).astype(np.float64)
        quantised: NDArray[np.float64] = (bias / self._scale(constants).astype(np.float64)).round()
        return quantised

    def fits(self, constants: Constants, floats: Constants) -> bool:
        """Say whether no scale had to be widened for it."""
        return bool((self._scale(constants) > 0).all()) and bool(
            (np.abs(self._quantised(constants, floats)) < _LARGEST_BIAS).all()
        )

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
            yield _Bias(bias.output[0], (bias.input[0], bias.input[1]), (value.input[1], weight.input[1]))
