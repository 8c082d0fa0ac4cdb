"""Writes Q/DQ models with ONNX Runtime's quantiser, from ranges that are already known."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from edgedistill_calibration.config import CANDIDATES, RETIRED_PROFILES
from edgedistill_calibration.graphs import preparation
from edgedistill_calibration.graphs.pixel_rows import normalise_in_rows
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.int8 import _shortcuts
from edgedistill_calibration.int8._pooling import pool_quantised, share_pool_ranges
from edgedistill_calibration.int8._rescaling import rescale
from edgedistill_calibration.int8.request import Int8Request
from edgedistill_calibration.judging.judge import WRITING
from edgedistill_calibration.ranges.measurement import AS_TRAINED, Ranges, measure_ranges, symmetric
from edgedistill_deploy.errors import EdgeDistillError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How the INT8 file of one runtime is written."""

    activation: str  # type of quantised activations, `QUInt8` or `QInt8`
    operators: tuple[str, ...]
    float_outputs: tuple[str, ...]  # operators whose outputs stay float
    options: Mapping[str, object] = field(default_factory=dict)  # of ONNX Runtime's quantiser
    shortcuts: bool = False  # also quantise residual branches that change shape, see `_shortcuts.shortcuts`
    quick_forms: bool = False  # write as ONNX Runtime computes it quickly, see `graphs.pixel_rows` and `_pooling`

    @property
    def symmetric(self) -> bool:
        """Whether every zero point is 0."""
        return bool(self.options.get("ActivationSymmetric"))

    def ranges(self, graph: onnx.GraphProto, measured: Ranges) -> Ranges:
        """Return the ranges that the values of a float graph have in its file."""
        if not self.quick_forms:
            return measured
        return share_pool_ranges(graph, measured, {*self.operators} - {*self.float_outputs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Every way that was tried to bring one float graph to INT8."""

    prepared: onnx.ModelProto  # the float graph, with folded batch norms and a name for every node
    ranges: Mapping[str, Mapping[str, Ranges]]  # {method: {"int8" or "int8-tensorrt": ranges}}
    files: Mapping[str, Mapping[str, Path]]  # {method: {"int8" or "int8-tensorrt": path}}


# ONNX Runtime computes Relu and Clip inside the Conv before them, and a float output of Gemm or MatMul costs nothing.
# Add, Mul, LayerNormalization and pooling in INT8 made no model more than 3 % faster, and cost a ViT 15 dB.
_OPERATORS = (*preparation.WEIGHTED, "Relu", "Clip")
_FLOAT_OUTPUTS = ("Gemm", "MatMul")
# By profile, for ONNX Runtime.
ORT_TARGETS = {
    "x86": Target(activation="QUInt8", operators=_OPERATORS, float_outputs=_FLOAT_OUTPUTS, quick_forms=True),
    "arm": Target(activation="QInt8", operators=_OPERATORS, float_outputs=_FLOAT_OUTPUTS, quick_forms=True),
}
# TensorRT's parser takes only zero point 0 and no INT32 biases; Conv + ReLU fuse when no Q/DQ is between them.
TENSORRT_TARGET = Target(
    activation="QInt8",
    operators=preparation.WEIGHTED,
    float_outputs=preparation.WEIGHTED,
    options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
    shortcuts=True,
)
# Every value that some target quantises.
MEASURED_OPERATORS = _OPERATORS


def targets(profile: str) -> dict[str, Target]:
    """Return the targets of one calibration: ONNX Runtime, by the profile, and TensorRT."""
    return {"int8": ORT_TARGETS[RETIRED_PROFILES.get(profile, profile)], "int8-tensorrt": TENSORRT_TARGET}


def write_candidates(request: Int8Request) -> Candidates:
    """Measure ranges once and write an ONNX Runtime and a TensorRT file for every way the settings try.

    Ranges of the student's training are tried too, unless they are of another graph.
    """
    config, source, prepared = request.config, request.judge.source, request.folder / "prepared.onnx"
    image_size = request.judge.prepared.preprocess.size
    graph = preparation.prepare_graph(source, prepared).graph
    reader = ActivationReader(onnx.load(prepared), preparation.activations(graph, MEASURED_OPERATORS))
    float_model = onnx.load(source)
    methods, given = CANDIDATES[config.method], request.trained_ranges
    measured: dict[str, Ranges] = {**measure_ranges(reader, request.batches, methods)}
    if given and all(set(reader.names) <= each.keys() for each in given.values()):
        measured |= given
        methods = (*methods, AS_TRAINED)
    written: dict[str, dict[str, Path]] = {}
    used: dict[str, dict[str, Ranges]] = {}
    plain: dict[str, onnx.ModelProto] = {}  # the first of each kind, from which the others are made
    floats = {each.name: each for each in graph.initializer}
    work = request.judge.prepared.work
    work.begin(WRITING, len(targets(config.profile)) * len(methods))
    for method in methods:
        own = {**request.metadata, "edgedistill.ranges": method}
        written[method], used[method] = {}, {}
        for precision, target in targets(config.profile).items():
            path = written[method][precision] = request.folder / f"{method}.{precision}.onnx"
            ranges = target.ranges(graph, measured[symmetric(method) if target.symmetric else method])
            used[method][precision] = ranges
            first = plain.get(precision)
            model = None if first is None else rescale(first, ranges, floats, symmetric=target.symmetric)
            if model is None:
                model = quantise_plain(prepared, path, target, ranges, blank_image(image_size))
                plain.setdefault(precision, copy.deepcopy(model))
            _finish_values(model, prepared, target, ranges)
            preparation.finish_graph(model, float_model, own)
            onnx.save(model, path)
            work.advance(1)
    return Candidates(prepared=onnx.load(prepared), ranges=used, files=written)


def quantise(
    prepared: Path, path: Path, target: Target, ranges: Ranges, image_size: tuple[int, int]
) -> onnx.ModelProto:
    """Quantise the file of `graphs.preparation.prepare_graph`, with images of this size (H, W), as `quantise_graph`."""
    return quantise_graph(prepared, path, target, ranges, blank_image(image_size))


def blank_image(image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return the input of a bundle's model: one black image of this size (H, W)."""
    return {"image": np.zeros((1, *image_size, 3), np.uint8)}


def quantise_graph(
    prepared: Path, path: Path, target: Target, ranges: Ranges, feeds: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Write a prepared graph in INT8 to `path` and return it; weights have one scale for each output channel.

    Args:
        prepared: the file of `graphs.preparation.fold_graph`.
        path: of the new file.
        target: of the new file.
        ranges: of every value `target` quantises.
        feeds: any values of the graph's inputs.

    Raises:
        EdgeDistillError: a quantised value has no range, or ONNX Runtime's quantiser cannot quantise the graph.
    """
    ranges = target.ranges(onnx.load(prepared).graph, ranges)
    model = quantise_plain(prepared, path, target, ranges, feeds)
    _finish_values(model, prepared, target, ranges)
    return model


def quantise_plain(
    prepared: Path, path: Path, target: Target, ranges: Ranges, feeds: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """Return a graph as ONNX Runtime's quantiser writes it; arguments and errors as `quantise_graph`.

    The ranges replace what ONNX Runtime measures on `feeds`. Its calibration cache could hold them too, but only since
    1.32, and it is used for other models too.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    overrides = {
        name: [{"rmin": np.array(low, np.float32), "rmax": np.array(high, np.float32)}]
        for name, (low, high) in ranges.items()
    }
    try:
        quantize_static(
            str(prepared),
            str(path),
            _Once(feeds),
            quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.MinMax,
            activation_type=QuantType[target.activation],
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(target.operators),
            extra_options={
                **target.options,
                "OpTypesToExcludeOutputQuantization": list(target.float_outputs),
                "TensorQuantOverrides": overrides,
            },
        )
    except Exception as error:  # its errors have no common class
        raise EdgeDistillError(f"ONNX Runtime cannot quantise the model: {preparation.first_line(error)}.") from error
    return onnx.load(path)


def _finish_values(model: onnx.ModelProto, prepared: Path, target: Target, ranges: Ranges) -> None:
    """Check that every range was measured, and do what ONNX Runtime's quantiser leaves to do."""
    _require_measured(model.graph, ranges)
    if target.quick_forms:
        pool_quantised(model)
        normalise_in_rows(model)
    if target.shortcuts:
        _shortcuts.quantise_values(model, _shortcuts.shortcuts(onnx.load(prepared).graph), ranges)


def _require_measured(graph: onnx.GraphProto, ranges: Ranges) -> None:
    """Refuse a graph with a range that was measured on the blank image."""
    quantised = (node.input[0] for node in graph.node if node.op_type == "QuantizeLinear")
    # The quantiser gives a graph's output this suffix before its Q/DQ, so that the output keeps its name after it.
    names = (value.removesuffix("_QuantizeLinear_Input") for value in quantised)
    unknown = [name for name in names if name not in ranges]
    if unknown:
        raise EdgeDistillError(
            f"No range was measured for {', '.join(unknown[:3])} of the student; its type cannot be inferred, so export"
            " the student again."
        )


class _Once:
    """One input for ONNX Runtime's quantiser; what it measures there is not used."""

    def __init__(self, feeds: Mapping[str, np.ndarray]) -> None:
        self._left = [dict(feeds)]

    def get_next(self) -> dict[str, np.ndarray] | None:  # the name ONNX Runtime calls
        return self._left.pop() if self._left else None
