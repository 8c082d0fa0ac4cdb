"""What an INT8 file of a bundle rounds: the values with their grids, and the weights of each node."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.files.json_text import read_json

_WEIGHTED = ("Conv", "Gemm", "MatMul")
# ONNX Runtime's quantiser computes these inside the Conv before them, and quantises their result.
_FUSED = ("Relu", "Clip")
_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
# The metadata entry with the nodes that calibration left in float.
_FLOAT_NODES = "edgedistill.float_nodes"
# ONNX Runtime's quantiser gives a graph's output this name before its Q/DQ, so that the output keeps its own after it.
_OUTPUT_SUFFIX = "_QuantizeLinear_Input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The values of a rounded activation: scale * (q - zero_point) for q from low to high."""

    scale: float
    zero_point: int
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounding:
    """All that an INT8 file rounds, by the names of the float graph's values."""

    activations: Mapping[str, Grid]
    weights: Mapping[str, int]  # {output of a node with weights: the largest integer of its weights, 127 or 64}


def read_rounding(bundle: Bundle) -> Rounding:
    """Read what `model.int8` rounds, and the calibrated ranges from `ranges`.

    Nodes that were left in float count as quantised, because training under quantisation should make such exceptions
    unnecessary. So the result does not change when a recovered student replaces the calibrated one.

    Raises:
        BundleError: the bundle lacks `model.int8`, `model.fp32` or `ranges`, or the INT8 file rounds nothing.
    """
    model = onnx.load(bundle.file(model_role("int8")))
    tensors = {each.name: each for each in model.graph.initializer}
    grids = dict(_activation_grids(model.graph, tensors))
    weights = dict(_weight_levels(model.graph, tensors))
    if not grids or not weights:
        raise BundleError(f"{bundle.file(model_role('int8'))} quantises nothing; calibrate the bundle again.")
    example, levels = next(iter(grids.values())), max(weights.values())
    ranges = _ranges(bundle.file("ranges"))
    floats = onnx.load(bundle.file(model_role("fp32"))).graph
    left = {each.key: each.value for each in model.metadata_props}.get(_FLOAT_NODES, "[]")
    for value, output, written in _find_node_values(floats, set(json.loads(left))):
        weights.setdefault(output, levels)
        for name in (value, written):
            if name in ranges:
                grids.setdefault(name, example)
    activations = {name: _grid_of(ranges[name], grid) if name in ranges else grid for name, grid in grids.items()}
    return Rounding(activations=activations, weights=weights)


def _activation_grids(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]) -> Iterator[tuple[str, Grid]]:
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in tensors:
            zero = numpy_helper.to_array(tensors[node.input[2]])
            low, high = _LIMITS[zero.dtype.name]
            scale = float(numpy_helper.to_array(tensors[node.input[1]]))
            name = node.input[0].removesuffix(_OUTPUT_SUFFIX)
            yield name, Grid(scale=scale, zero_point=int(zero), low=low, high=high)


def _weight_levels(graph: onnx.GraphProto, tensors: Mapping[str, onnx.TensorProto]) -> Iterator[tuple[str, int]]:
    codes = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    }
    for node in graph.node:
        if node.op_type in _WEIGHTED and node.input[1] in codes:
            stored = numpy_helper.to_array(tensors[codes[node.input[1]]]).astype(np.int64)
            reduced = np.abs(stored).max(initial=0) <= 64
            yield node.output[0].removesuffix(_OUTPUT_SUFFIX), 64 if reduced else 127


def find_readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each value, by its name."""
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _find_node_values(graph: onnx.GraphProto, names: set[str]) -> Iterator[tuple[str, str, str]]:
    """For each named node with weights, yield its input, its output, and the output that was quantised."""
    readers = find_readers(graph)
    for node in graph.node:
        if node.name in names and node.op_type in _WEIGHTED:
            after = readers[node.output[0]]
            fused = len(after) == 1 and after[0].op_type in _FUSED
            written = after[0].output[0] if fused else node.output[0]
            # A Gemm or MatMul gives float.
            yield node.input[0], node.output[0], written if node.op_type == "Conv" else ""


def _ranges(path: Path) -> Mapping[str, tuple[float, float]]:
    try:
        record = read_json(path)
        return {name: (float(low), float(high)) for name, (low, high) in record["ranges"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} does not hold the ranges of a calibration; calibrate the bundle again.") from error


def _grid_of(bounds: tuple[float, float], example: Grid) -> Grid:
    """Return the grid that ONNX Runtime's quantiser makes of a range, with the limits of another grid."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    scale = (high - low) / (example.high - example.low) or 1.0
    zero = round(example.low - low / scale)
    return Grid(scale=scale, zero_point=zero, low=example.low, high=example.high)
