"""A MaxPool of quantised values: ONNX Runtime pools INT8, and what the file means is the pool of quantised values."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.config import machine_profile
from edgedistill_calibration.graphs.preparation import activations, finish_graph, prepare_graph
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, ORT_TARGETS, TENSORRT_TARGET, Target, quantise
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from reference.as_written import open_as_written

SIZE = 12


def float_model(*, padding: int = 1, residual: bool = True) -> onnx.ModelProto:
    """Convolution, ReLU, MaxPool, then a residual block: the pool's output has two readers, one of them an Add."""
    random = np.random.default_rng(0)
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [padding] * 4}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["turned", "scale"], ["pixels"]),
        helper.make_node("Conv", ["pixels", "first"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MaxPool", ["b"], ["pooled"], name="pool", **window),
        helper.make_node("Conv", ["pooled", "second"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "pooled" if residual else "c"], ["logits"]),
    ]
    constants = {
        "scale": np.float32(1 / 255).reshape(1),
        "first": random.normal(0, 0.4, (8, 3, 3, 3)).astype(np.float32),
        "second": random.normal(0, 0.2, (8, 8, 3, 3)).astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "pooling",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 8, None, None])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def images() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


def values_of(model: onnx.ModelProto, *names: str) -> list[NDArray[np.float32]]:
    watched = copy.deepcopy(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(each, TensorProto.FLOAT, [None] * 4) for each in names)
    found: list[NDArray[np.float32]] = open_as_written(watched).run(None, {"image": images()})
    return found


def quantised(model: onnx.ModelProto, folder: Path, target: Target) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the prepared graph and its INT8; the pool's output has a wider range than its input, as measured ones."""
    onnx.save(model, folder / "float.onnx")
    prepared = prepare_graph(folder / "float.onnx", folder / "prepared.onnx")
    names = activations(prepared.graph, MEASURED_OPERATORS)
    ranges = {
        name: (min(0.0, float(each.min())), max(0.0, float(each.max())))
        for name, each in zip(names, values_of(prepared, *names), strict=True)
    }
    ranges["pooled"] = (0.0, 1.5 * ranges["pooled"][1])
    made = quantise(folder / "prepared.onnx", folder / "int8.onnx", target, ranges, (SIZE, SIZE))
    finish_graph(made, model, {})
    return prepared, made


def optimised(model: onnx.ModelProto, path: Path) -> onnx.GraphProto:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(path).graph


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("padding", [0, 1])
def test_onnx_runtime_pools_int8_on_the_processor_that_the_file_is_for(
    padding: int, residual: bool, tmp_path: Path
) -> None:
    model = float_model(padding=padding, residual=residual)
    _, made = quantised(model, tmp_path, ORT_TARGETS[machine_profile()])
    graph = optimised(made, tmp_path / "optimised.onnx")
    makers = {name: node for node in graph.node for name in node.output}
    (pool,) = (node for node in graph.node if node.op_type.endswith("MaxPool"))
    before = makers[pool.input[0]]
    while before.op_type in {"Transpose", "Reshape"}:
        before = makers[before.input[0]]
    assert before.op_type == "QLinearConv"


@pytest.mark.parametrize("profile", ["x86", "arm"])
def test_what_follows_reads_the_largest_of_the_quantised_values(profile: str, tmp_path: Path) -> None:
    _, made = quantised(float_model(), tmp_path, ORT_TARGETS[profile])
    (add,) = (node for node in made.graph.node if node.op_type == "Add")
    pool = next(node for node in made.graph.node if node.op_type == "MaxPool")
    read, pooled = values_of(made, add.input[1], pool.output[0])
    assert read.any()
    assert np.array_equal(read, pooled)


def test_a_node_after_the_pool_can_be_float(tmp_path: Path) -> None:
    prepared, made = quantised(float_model(), tmp_path, ORT_TARGETS["x86"])
    mixed = MixedPrecision(prepared, made)
    (wanted,) = values_of(prepared, "logits")
    for left in (["second"], ["first"], ["first", "second"]):
        (found,) = values_of(mixed.leaving(left), "logits")
        error = np.abs(found - wanted).max()
        assert error <= (1e-5 if len(left) == 2 else 0.05 * np.abs(wanted).max())


def scale_of(model: onnx.ModelProto, value: str) -> float:
    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    quantisers = [node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == value]
    return float(constants[quantisers[0].input[1]])


def test_the_file_for_tensorrt_keeps_the_range_of_the_pool(tmp_path: Path) -> None:
    """It pools floats, so what the pool makes has a range of its own."""
    prepared, made = quantised(float_model(), tmp_path, TENSORRT_TARGET)
    (pooled,) = values_of(prepared, "pooled")
    assert scale_of(made, "pooled") == pytest.approx(1.5 * float(pooled.max()) / 127)


def test_a_pool_of_floats_keeps_its_own_range(tmp_path: Path) -> None:
    """An Add makes what is pooled, which stays in float, though a convolution reads it in INT8."""
    model = float_model()
    model.graph.node[4].CopyFrom(helper.make_node("Add", ["a", "a"], ["b"]))
    model.graph.node.append(helper.make_node("Conv", ["b", "second"], ["aside"], name="aside"))
    model.graph.output.append(helper.make_tensor_value_info("aside", TensorProto.FLOAT, ["N", 8, None, None]))
    prepared, made = quantised(model, tmp_path, ORT_TARGETS["x86"])
    (pooled,) = values_of(prepared, "pooled")
    assert scale_of(made, "pooled") == pytest.approx(1.5 * float(pooled.max()) / 255)
