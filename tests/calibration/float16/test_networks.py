"""Networks of timm, exported and brought to FP16 and INT8 + FP16: they answer as before, and compute what they claim
in."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill_calibration.float16._types import value_types
from edgedistill_calibration.float16.conversion import write_float16
from edgedistill_calibration.graphs.preparation import activations, finish_graph, prepare_graph
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, TENSORRT_TARGET, quantise
from edgedistill_calibration.ranges.measurement import measure_ranges
from reference.small_networks import SMALL_NETWORKS, small_network

SIZE = (64, 64)
FAST = ("resnet", "vit")
_WORK = ("Conv", "Gemm", "MatMul")
Images = NDArray[np.uint8]


def images(count: int, seed: int) -> Images:
    """Smooth random pictures: noise in 8 x 8, enlarged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def groups(count: int) -> list[Images]:
    return np.array_split(images(16, seed=0), 16 // min(count, 16))


@functools.cache
def exported(family: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        model = Deployed(small_network(family), Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        write_onnx(model, SIZE, path, opset=20, metadata={})
        return path.read_bytes()


def logits(path: Path) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given: NDArray[np.float32] = session.run(["logits"], {"image": images(24, seed=1)})[0]
    return given


def decibels(wanted: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.sum(wanted**2) / np.sum((wanted - given) ** 2)))


def work_types(path: Path) -> list[int | None]:
    """The types of what every Conv, Gemm and MatMul gives."""
    model = onnx.load(path)
    types = value_types(model)
    return [types[node.output[0]] for node in model.graph.node if node.op_type in _WORK]


@pytest.mark.parametrize(
    "family", [each if each in FAST else pytest.param(each, marks=pytest.mark.slow) for each in SMALL_NETWORKS]
)
def test_the_work_is_float16_unless_measured_otherwise_and_the_answers_stay(family: str, tmp_path: Path) -> None:
    source, half = tmp_path / "source.onnx", tmp_path / "half.onnx"
    source.write_bytes(exported(family))
    record = write_float16(source, half, groups)
    # In random networks without training some values shrink to 1e-7 on the way.
    measured = [each for each in record.kept if each.op_type in _WORK]
    assert all(each.largest is not None for each in measured)
    assert work_types(half).count(TensorProto.FLOAT) == len(measured)
    assert decibels(logits(source), logits(half)) > 40
    if family in FAST:
        assert measured == []
        assert half.stat().st_size < 0.65 * source.stat().st_size


def test_int8_beside_float16_has_float16_scales_and_int8_zero_points(tmp_path: Path) -> None:
    source, prepared, int8, half = (tmp_path / f"{name}.onnx" for name in ("s", "p", "i", "h"))
    source.write_bytes(exported("resnet"))
    graph = prepare_graph(source, prepared).graph
    reader = ActivationReader(onnx.load(prepared), activations(graph, MEASURED_OPERATORS))
    ranges = measure_ranges(reader, groups, ["minmax"])["minmax"]
    model = quantise(prepared, int8, TENSORRT_TARGET, ranges, SIZE)
    finish_graph(model, onnx.load(source), {})
    onnx.save(model, int8)
    record = write_float16(int8, half, groups)
    assert not [each for each in record.kept if each.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert set(work_types(half)) == {TensorProto.FLOAT16}
    graph = onnx.load(half).graph
    kinds = {each.name: each.data_type for each in graph.initializer}
    quantisers = [node for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {kinds[node.input[1]] for node in quantisers} == {TensorProto.FLOAT16}
    assert {kinds[node.input[2]] for node in quantisers} == {TensorProto.INT8}
    # Against INT8 alone: rounding moves some activations by a whole step.
    assert decibels(logits(int8), logits(half)) > 20
