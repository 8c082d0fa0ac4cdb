"""Images that are normalised in rows: the same answers, in a layout that ONNX Runtime need not repeat."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.graphs.pixel_rows import normalise_in_rows
from edgedistill_calibration.graphs.preparation import finish_graph, prepare_graph
from edgedistill_calibration.int8._qdq import ORT_TARGETS, quantise

HEIGHT, WIDTH, CHANNELS = 5, 7, 3
Step = tuple[str, bool, tuple[int, ...]]  # the operator, whether the constant comes first, the constant's shape
STEPS = st.tuples(
    st.sampled_from(("Add", "Sub", "Mul", "Div")),
    st.booleans(),
    st.sampled_from(((), (1,), (1, CHANNELS, 1, 1), (CHANNELS, 1, 1), (1, 1, 1, 1))),
)


def graph_of(
    steps: Sequence[Step], *, cast_first: bool = True, perm: Sequence[int] = (0, 3, 1, 2), seed: int = 0
) -> onnx.ModelProto:
    """Images to floats, these steps with random constants, then a convolution to `logits`."""
    random = np.random.default_rng(seed)
    cast = helper.make_node("Cast", ["image" if cast_first else "turned"], ["floats"], name="cast", to=1)
    turn = helper.make_node(
        "Transpose", ["floats" if cast_first else "image"], ["turned"], name="turn", perm=list(perm)
    )
    nodes = [cast, turn] if cast_first else [turn, cast]
    value, constants = nodes[-1].output[0], []
    for place, (operator, first, shape) in enumerate(steps):
        number = random.uniform(0.5, 2, shape).astype(np.float32)
        constants.append(numpy_helper.from_array(np.asarray(number), f"constant_{place}"))
        read = [f"constant_{place}", value] if first else [value, f"constant_{place}"]
        value = f"step_{place}"
        nodes.append(helper.make_node(operator, read, [value], name=value))
    weight = random.normal(0, 0.3, (4, CHANNELS, 3, 3)).astype(np.float32)
    nodes.append(helper.make_node("Conv", [value, "weight"], ["logits"], name="conv", pads=[1, 1, 1, 1]))
    graph = helper.make_graph(
        nodes,
        "normalised",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", HEIGHT, WIDTH, CHANNELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4, None, None])],
        [*constants, numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: onnx.ModelProto, *, optimised: bool) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, CHANNELS), dtype=np.uint8)
    logits: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return logits


def in_rows(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copy.deepcopy(model)
    normalise_in_rows(changed)
    onnx.checker.check_model(changed, full_check=True)
    return changed


@given(steps=st.lists(STEPS, min_size=1, max_size=4), cast_first=st.booleans(), seed=st.integers(0, 9))
def test_every_answer_is_the_same_bit_by_bit(steps: list[Step], cast_first: bool, seed: int) -> None:
    model = graph_of(steps, cast_first=cast_first, seed=seed)
    changed = in_rows(model)
    assert [node.op_type for node in changed.graph.node].count("Reshape") == 2
    assert np.array_equal(run(changed, optimised=False), run(model, optimised=False))


@pytest.mark.parametrize(
    "model",
    [
        graph_of([]),
        graph_of([("Mul", False, (1, 1, HEIGHT, 1))]),
        graph_of([("Mul", False, (2, CHANNELS, 1, 1))]),
        graph_of([("Mul", False, ())], perm=(0, 1, 2, 3)),
    ],
    ids=["nothing is done to pixels", "a number a row", "a number an image", "no channels first"],
)
def test_other_graphs_stay_as_they_are(model: onnx.ModelProto) -> None:
    changed = copy.deepcopy(model)
    normalise_in_rows(changed)
    assert changed == model


def test_a_value_that_others_read_keeps_its_name_and_its_numbers() -> None:
    model = graph_of([("Mul", False, (1, CHANNELS, 1, 1)), ("Add", False, (1, CHANNELS, 1, 1))])
    for name in ("step_0", "step_1"):
        watched = copy.deepcopy(model)
        watched.graph.output.insert(0, helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4))
        assert np.array_equal(run(in_rows(watched), optimised=False), run(watched, optimised=False))


def test_what_a_branch_reads_stays() -> None:
    """A graph inside a node reads a constant of the normalisation, and the value before it."""
    model = graph_of([("Mul", False, (1, CHANNELS, 1, 1))])
    for read in ("constant_0", "turned"):
        watched = copy.deepcopy(model)
        inner = helper.make_node("Identity", [read], ["chosen"])
        branch = helper.make_graph(
            [inner], "branch", [], [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [None] * 4)]
        )
        watched.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
        watched.graph.node.append(
            helper.make_node("If", ["always"], ["result"], then_branch=branch, else_branch=branch)
        )
        watched.graph.output.insert(0, helper.make_tensor_value_info("result", TensorProto.FLOAT, [None] * 4))
        assert np.array_equal(run(in_rows(watched), optimised=False), run(watched, optimised=False))


@pytest.mark.parametrize("taken", ["constant_0_row", "turned_rows", "turned_rows_shape", "step_0_rows"])
def test_a_name_that_is_taken_leaves_the_graph_as_it_is(taken: str) -> None:
    model = graph_of([("Mul", False, (1, CHANNELS, 1, 1)), ("Add", False, (1,))])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1).reshape(1), taken))
    model.graph.node.append(helper.make_node("Add", ["logits", taken], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [None] * 4))
    assert in_rows(model) == model


def test_no_images_give_no_answers() -> None:
    model = in_rows(graph_of([("Mul", False, (1, CHANNELS, 1, 1))]))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    none = np.zeros((0, HEIGHT, WIDTH, CHANNELS), np.uint8)
    assert session.run(None, {"image": none})[0].shape == (0, 4, HEIGHT, WIDTH)


@pytest.mark.parametrize("profile", ["x86", "arm"])
def test_onnx_runtime_repeats_no_number_for_each_pixel(profile: str, tmp_path: Path) -> None:
    model = graph_of([("Mul", False, (1, CHANNELS, 1, 1)), ("Add", False, (1, CHANNELS, 1, 1))])
    onnx.save(model, tmp_path / "float.onnx")
    prepare_graph(tmp_path / "float.onnx", tmp_path / "prepared.onnx")
    ranges = {"step_1": (0.0, 600.0), "logits": (-200.0, 200.0)}
    size = (HEIGHT, WIDTH)
    quantised = quantise(tmp_path / "prepared.onnx", tmp_path / "int8.onnx", ORT_TARGETS[profile], ranges, size)
    finish_graph(quantised, model, {})
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(quantised.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx").graph
    sizes = {each.name: [*each.dims] for each in graph.initializer}
    read = [sizes[name] for node in graph.node if node.op_type in {"Mul", "Add"} for name in node.input[1:]]
    assert read == [[WIDTH * CHANNELS]] * 2
