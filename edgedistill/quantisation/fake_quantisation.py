"""A student that computes in torch what its INT8 file computes on a device, and that can be trained."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.networks.modes import evaluating
from edgedistill.networks.tensor_calls import NETWORK_INPUT, WEIGHTED, CallKey, CallRecorder, TensorCalls, record_calls
from edgedistill.quantisation._int8_grids import Grid, Rounding, find_readers
from edgedistill_deploy.errors import EdgeDistillError

# Largest difference between one value in torch and in ONNX Runtime, relative to the value's largest entry.
SAME = 1e-3
# Calls from a value back to its weight: batch normalisation, an activation and a reshape may lie between.
LONGEST_WAY = 4
_SMALLEST_SCALE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRounding:
    """What a forward pass rounds, by call, and what of the ONNX file no call of the network computes."""

    activations: Mapping[CallKey, Grid]
    weights: Mapping[CallKey, int]  # the largest integer of the call's weights
    left_float: tuple[str, ...]


def find_calls(
    network: nn.Module,
    normalise: nn.Module,
    float_model: onnx.ModelProto,
    rounding: Rounding,
    samples: NDArray[np.uint8],
) -> CallRounding:
    """Find the calls of a network that compute what an INT8 file rounds, by running both on the same images.

    The file has folded batch norms and its own names, but its values are the same numbers. Rounding weights per output
    channel and folding a batch norm give the same result in either order.

    Args:
        network: the float student.
        normalise: turns `samples` into its input.
        float_model: the ONNX file of the same student.
        rounding: by that file's values.
        samples: prepared images, uint8 (N, H, W, 3); two are enough.

    Raises:
        EdgeDistillError: the network has none of the values that the file rounds, so it is another network.
    """
    with evaluating(network):
        calls = record_calls(network, normalise(torch.from_numpy(samples)))
    after = _after_bias(float_model.graph)
    outputs = {name: after.get(name, name) for name in rounding.weights}
    names = list(dict.fromkeys((*rounding.activations, *outputs.values())))
    found = dict(_matches(calls, _values(float_model, names, samples)))
    activations: dict[CallKey, Grid] = {}
    for name, grid in rounding.activations.items():
        if name in found:
            activations.setdefault(found[name], grid)
    weights: dict[CallKey, int] = {}
    unknown = [name for name in rounding.activations if name not in found]
    for name, levels in rounding.weights.items():
        key = _find_weighted(calls, found.get(outputs[name]))
        if key is None:
            unknown.append(name)
        else:
            weights[key] = levels
    if not activations or not weights:
        raise EdgeDistillError(
            "The student computes nothing that the bundle's INT8 model rounds, so that file is of another student; "
            "export and calibrate again."
        )
    return CallRounding(activations=activations, weights=weights, left_float=tuple(dict.fromkeys(unknown)))


def _after_bias(graph: onnx.GraphProto) -> dict[str, str]:
    """Map the output of each MatMul that only an Add of a constant reads to the Add's output: both are one layer."""
    constants, readers = {each.name for each in graph.initializer}, find_readers(graph)
    after = {node.output[0]: readers[node.output[0]] for node in graph.node if node.op_type == "MatMul"}
    return {
        name: adds[0].output[0]
        for name, adds in after.items()
        if len(adds) == 1 and adds[0].op_type == "Add" and constants & set(adds[0].input)
    }


def _values(model: onnx.ModelProto, names: Sequence[str], samples: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Run the float file and return those of the named values that it has."""
    opened = copy.deepcopy(model)
    made = {name for node in model.graph.node for name in node.output}
    present = {each.name for each in model.graph.output}
    opened.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in names
        if name in made - present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    known = [name for name in names if name in made]
    return dict(zip(known, session.run(known, {session.get_inputs()[0].name: samples}), strict=True))


def _matches(calls: CallRecorder, values: Mapping[str, NDArray[np.float32]]) -> Iterator[tuple[str, CallKey]]:
    """Yield for each value the first call that gives it."""
    for name, value in values.items():
        wanted = torch.from_numpy(value)
        scale = float(wanted.abs().max()) or 1.0
        distances = {
            key: float((given - wanted).abs().max()) / scale
            for key, given in calls.values.items()
            if given.shape == wanted.shape
        }
        if distances:
            # Copies of one value do not differ; other values differ by much more than rounding.
            nearest = min(distances.values())
            first = next(key for key, each in distances.items() if each <= nearest + 1e-7)
            if distances[first] <= SAME:
                yield name, first


def _find_weighted(calls: CallRecorder, key: CallKey | None) -> CallKey | None:
    """Walk back from a value to the call with its weights."""
    for _ in range(LONGEST_WAY):
        if key is None or key.function in WEIGHTED:
            return key
        sources = calls.sources[key]
        key = sources[0] if sources else None
    return None


class FakeQuantised(nn.Module):
    """A student with rounded activations and weights; inside the range the gradient is that of the identity.

    Weights are rounded per output channel, symmetrically, with a scale that follows them. Activations are rounded per
    tensor, to the calibrated grids. Batch norms keep the statistics that were folded into the INT8 file, also in
    training.
    """

    def __init__(self, network: nn.Module, rounding: CallRounding) -> None:
        super().__init__()
        self.network = network
        self._rounding = rounding

    @property
    def left_float(self) -> tuple[str, ...]:
        """What the INT8 file rounds and this network does not."""
        return self._rounding.left_float

    def train(self, mode: bool = True) -> "FakeQuantised":
        """Set the mode; the network itself stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C) of normalised images (N, 3, H, W).

        Raises:
            EdgeDistillError: the network calls other functions than when its calls were found.
        """
        rounding = self._rounding
        if NETWORK_INPUT in rounding.activations:
            images = _round(images, rounding.activations[NETWORK_INPUT])
        with _RoundingCalls(rounding) as calls:
            logits: Tensor = self.network(images)
        if calls.met != (rounding.activations.keys() | rounding.weights.keys()) - {NETWORK_INPUT}:
            raise EdgeDistillError(
                "The student calls other functions in training than on sample images, so it cannot be trained under"
                " quantisation; leave --recover out."
            )
        return logits


class _RoundingCalls(TensorCalls):
    """Rounds the weights and results of the calls it was given."""

    def __init__(self, rounding: CallRounding) -> None:
        super().__init__()
        self._activations, self._weights = rounding.activations, rounding.weights
        self.met: set[CallKey] = set()

    def before(self, key: CallKey, args: Sequence[Any]) -> Sequence[Any]:
        if key not in self._weights:
            return args
        self.met.add(key)
        return (args[0], round_weight(args[1], self._weights[key]), *args[2:])

    def after(self, key: CallKey, args: Sequence[Any], result: Any) -> Any:
        if key not in self._activations:
            return result
        self.met.add(key)
        return _round(result, self._activations[key])


def _round(values: Tensor, grid: Grid) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(values, grid.scale, grid.zero_point, grid.low, grid.high)


def round_weight(weight: Tensor, levels: int) -> Tensor:
    """Round a weight (O, ...) to the integers from -levels to levels times a scale for each output channel."""
    largest = weight.detach().flatten(1).abs().amax(1)
    scale = (largest / levels).clamp_min(_SMALLEST_SCALE)
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -levels, levels)
