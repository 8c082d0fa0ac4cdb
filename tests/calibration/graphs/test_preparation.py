"""What is read from graphs and changed in them, on graphs small enough to see through."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.graphs.preparation import finish_graph, prepare_graph
from edgedistill_calibration.int8._qdq import ORT_TARGETS, quantise
from edgedistill_calibration.int8._shortcuts import quantise_values, shortcuts
from edgedistill_deploy.errors import EdgeDistillError

_WEIGHT = np.random.default_rng(0).normal(0, 0.3, (3, 3, 1, 1)).astype(np.float32)


def conv(value: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [value, "weight"], [result], name=result)


def relu(value: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [value], [result], name=result)


def add(one: str, other: str, result: str) -> onnx.NodeProto:
    return helper.make_node("Add", [one, other], [result], name=result)


def model_of(nodes: Sequence[onnx.NodeProto], domains: Sequence[str] = ("",)) -> onnx.ModelProto:
    """Pixels to floats, then these nodes, from `pixels` to `logits` (N, 3, 4, 4)."""
    before = [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["pixels"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        [*before, *nodes],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [numpy_helper.from_array(_WEIGHT, "weight")],
    )
    opsets = [helper.make_opsetid(domain, 20 if domain == "" else 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def run(model: onnx.ModelProto) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    image = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    logits: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return logits


RESIDUAL = [
    conv("pixels", "a"),
    relu("a", "b"),
    conv("b", "long_1"),
    relu("long_1", "long_2"),
    conv("long_2", "long_3"),
    conv("b", "short"),
]


@pytest.mark.parametrize("ends", [("long_3", "short"), ("short", "long_3")])
def test_the_shorter_branch_is_found_whichever_way_they_are_added(ends: tuple[str, str]) -> None:
    assert shortcuts(model_of([*RESIDUAL, add(*ends, "logits")]).graph) == ["short"]


def test_identity_shortcuts_and_biases_are_none() -> None:
    identity = [conv("pixels", "a"), relu("a", "b"), conv("b", "c"), add("c", "b", "logits")]
    assert shortcuts(model_of(identity).graph) == []
    bias = [conv("pixels", "a"), add("a", "weight", "logits")]
    assert shortcuts(model_of(bias).graph) == []


def test_a_quantised_value_is_within_half_a_step_and_others_stay() -> None:
    model = model_of([*RESIDUAL, add("long_3", "short", "logits")])
    wanted = run(model)
    bound = 20.0
    quantise_values(model, ["short"], {"short": (-3.0, bound)})
    onnx.checker.check_model(model, full_check=True)
    difference = np.abs(run(model) - wanted)
    assert 0 < difference.max() <= 0.5 * bound / 127 * 1.001


def test_a_value_that_is_always_zero_gets_a_scale_all_the_same() -> None:
    model = model_of([*RESIDUAL, add("long_3", "short", "logits")])
    quantise_values(model, ["short"], {"short": (0.0, 0.0)})
    scales = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert scales["short_shortcut_scale"] == 1


def test_a_value_that_no_add_reads_any_more_is_left_alone() -> None:
    model = model_of([*RESIDUAL, add("long_3", "long_2", "logits")])
    before = model.SerializeToString()
    quantise_values(model, ["short"], {})
    assert model.SerializeToString() == before


def test_every_node_gets_a_name(tmp_path: Path) -> None:
    onnx.save(model_of([conv("pixels", "a"), relu("a", "logits")]), tmp_path / "model.onnx")
    graph = prepare_graph(tmp_path / "model.onnx", tmp_path / "prepared.onnx").graph
    names = [node.name for node in graph.node]
    assert len(set(names)) == len(names) == 4
    assert "" not in names


def test_a_model_without_weights_has_nothing_to_quantise(tmp_path: Path) -> None:
    onnx.save(model_of([relu("pixels", "logits")]), tmp_path / "model.onnx")
    with pytest.raises(EdgeDistillError, match="no Conv, Gemm, MatMul node, so there is nothing to bring to INT8"):
        prepare_graph(tmp_path / "model.onnx", tmp_path / "prepared.onnx")


def test_operators_that_are_not_onnx_are_named() -> None:
    foreign = helper.make_node("QuickGelu", ["a"], ["logits"], domain="com.microsoft")
    model = model_of([conv("pixels", "a"), foreign], ("", "com.microsoft"))
    with pytest.raises(EdgeDistillError, match=r"uses com\.microsoft\.QuickGelu, which not every runtime has"):
        finish_graph(model, model, {})


def test_unused_operator_sets_are_dropped_and_metadata_is_the_sources() -> None:
    source = model_of([conv("pixels", "logits")])
    helper.set_model_props(source, {"edgedistill.subtask": "wading birds", "note": "ü"})
    model = model_of([conv("pixels", "logits")], ("", "com.microsoft", "org.pytorch.aten"))
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    finish_graph(model, source, {"edgedistill.calibration": "abc"})
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert {each.key: each.value for each in model.metadata_props} == {
        "edgedistill.subtask": "wading birds",
        "note": "ü",
        "edgedistill.calibration": "abc",
    }


def test_a_value_without_a_measured_range_is_never_quantised_by_guess(tmp_path: Path) -> None:
    onnx.save(model_of([conv("pixels", "a"), relu("a", "logits")]), tmp_path / "model.onnx")
    prepare_graph(tmp_path / "model.onnx", tmp_path / "prepared.onnx")
    with pytest.raises(EdgeDistillError, match="No range was measured for pixels of the student"):
        quantise(
            tmp_path / "prepared.onnx",
            tmp_path / "int8.onnx",
            ORT_TARGETS["x86"],
            {"a": (-1.0, 1.0), "logits": (0.0, 1.0)},
            (4, 4),
        )
