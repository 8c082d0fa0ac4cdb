"""Graphs that run together answer as each does alone, and compute what they share once."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.graphs.merging import merge_graphs
from edgedistill_calibration.graphs.preparation import activations, finish_graph, prepare_graph
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, quantise, targets
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.judging.judge import ImageCount, run_logits
from edgedistill_calibration.ranges.measurement import measure_ranges
from edgedistill_deploy.progress import Phases
from edgedistill_deploy.runtimes.int8_kernels import set_exact_int8
from reference.fitted_networks import SIZE, Weights, shape_images, write_network

IMAGES = shape_images(3, seed=3)[0]


def alone(model: onnx.ModelProto) -> NDArray[np.float32]:
    """The answers of a graph in a session of its own, with all of ONNX Runtime's optimisations."""
    options = onnxruntime.SessionOptions()
    set_exact_int8(onnxruntime, options)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(["logits"], {"image": IMAGES})[0]
    return logits


def together(models: Sequence[onnx.ModelProto]) -> list[NDArray[np.float32]]:
    work = ImageCount(phases=Phases(lambda *_: None, {"all": 1.0}))
    work.begin("all", len(models) * len(IMAGES))
    found = run_logits(models, IMAGES, work)
    assert work.done == len(models) * len(IMAGES)
    return found


def drawn_weights() -> Weights:
    """Weights of the shapes' network that keep its values about as large as they are; it need not classify."""
    random = np.random.default_rng(0)

    def drawn(made: int, given: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        kernel = random.normal(0, (2 / (given * side * side)) ** 0.5, (made, given, side, side))
        return kernel.astype(np.float32), random.normal(0, 0.1, made).astype(np.float32)

    shapes = {
        "stem": (12, 3, 3), "inner_1": (12, 12, 3), "inner_2": (12, 12, 3), "longer_1": (24, 12, 3),
        "longer_2": (24, 24, 3), "shortcut": (24, 12, 1), "last": (32, 24, 3), "head": (4, 32, 1),
    }  # fmt: skip
    return {name: drawn(*shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module", params=["int8", "int8-tensorrt"])
def mixed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MixedPrecision:
    folder = tmp_path_factory.mktemp("graphs")
    prepared = prepare_graph(write_network(folder / "float.onnx", weights=drawn_weights()), folder / "prepared.onnx")
    reader = ActivationReader(prepared, activations(prepared.graph, MEASURED_OPERATORS))
    ranges = measure_ranges(reader, lambda size: [IMAGES], ["minmax"])["minmax"]
    target = targets("x86")[request.param]
    model = quantise(folder / "prepared.onnx", folder / "int8.onnx", target, ranges, (SIZE, SIZE))
    finish_graph(model, prepared, {})
    return MixedPrecision(prepared, model)


@pytest.mark.parametrize("kind", ["alone in INT8", "alone in float"])
def test_every_graph_answers_as_alone(kind: str, mixed: MixedPrecision) -> None:
    """As the ledger runs them: every node as the only one in INT8, or as the only one in float beside the whole."""
    left = [[each for each in mixed.nodes if each != name] for name in mixed.nodes]
    groups = left if kind == "alone in INT8" else [[], *([name] for name in mixed.nodes)]
    models = [mixed.leaving(names) for names in groups]
    found = together(models)
    for model, logits in zip(models, found, strict=True):
        # Kernels may add in another order. Where that moves a value past the middle of an INT8 step, the logits move by
        # far less than INT8 itself moves them, which is 0.008 and more for every node here.
        wanted = alone(model)
        np.testing.assert_allclose(logits, wanted, atol=1e-3)
        assert np.isclose(logits, wanted, rtol=1e-5, atol=1e-5).all(axis=1).mean() > 0.8
    assert len({logits.tobytes() for logits in found}) == len(models)  # they do differ


def test_what_graphs_share_is_there_once(mixed: MixedPrecision) -> None:
    """The head in float, or in INT8: all before what it reads is in both."""
    whole, head = mixed.leaving([]), mixed.leaving(["head"])
    merged = merge_graphs([whole, head, whole], "logits")
    assert merged.outputs[0] == merged.outputs[2] != merged.outputs[1]
    convolutions = [node for node in merged.model.graph.node if node.op_type == "Conv"]
    # The last is there twice where its ReLU was joined to it: its value is read in INT8 or by a ReLU.
    assert len(convolutions) in (7, 8)
    assert len([node for node in merged.model.graph.node if node.op_type == "Gemm"]) == 2


def small(nodes: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.float32), "one"),
            numpy_helper.from_array(np.array([3, 2, 1], np.float32), "two"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_nodes_that_differ_in_an_attribute_a_constant_or_their_order_of_inputs_stay_apart() -> None:
    graphs = [
        small([helper.make_node("Sub", ["image", "one"], ["logits"])]),
        small([helper.make_node("Sub", ["image", "two"], ["logits"])]),
        small([helper.make_node("Sub", ["one", "image"], ["logits"])]),
        small([helper.make_node("Concat", ["image", "image"], ["logits"], axis=1)]),
        small([helper.make_node("Concat", ["image", "image"], ["logits"], axis=0)]),
        small([helper.make_node("Clip", ["image", "", "least"], ["logits"])]),
        small([helper.make_node("Clip", ["image", "least"], ["logits"])]),
    ]
    for graph in graphs:
        graph.graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "least"))
    merged = merge_graphs(graphs, "logits")
    assert len(set(merged.outputs)) == len(graphs)
    feeds = {"image": np.array([[0, 5, 10], [-1, 2, 0]], np.float32)}
    session = onnxruntime.InferenceSession(merged.model.SerializeToString(), providers=["CPUExecutionProvider"])
    for graph, found in zip(graphs, session.run(list(merged.outputs), feeds), strict=True):
        own = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        np.testing.assert_array_equal(found, own.run(["logits"], feeds)[0])


def test_a_graph_inside_a_node_sees_the_values_around_it() -> None:
    """A branch of If reads a value of the graph around it, whose name changes."""

    def graph(constant: str) -> onnx.ModelProto:
        out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
        branches = [
            helper.make_graph([helper.make_node(kind, ["shifted", constant], ["inner"])], kind, [], [out])
            for kind in ("Mul", "Add")
        ]
        return small(
            [
                helper.make_node("Add", ["image", "one"], ["shifted"]),
                helper.make_node("ReduceSum", ["shifted"], ["total"], keepdims=0),
                helper.make_node("Cast", ["total"], ["any"], to=TensorProto.BOOL),
                helper.make_node("If", ["any"], ["logits"], then_branch=branches[0], else_branch=branches[1]),
            ]
        )

    graphs = [graph("one"), graph("two")]
    merged = merge_graphs(graphs, "logits")
    feeds = {"image": np.array([[0, 5, 10]], np.float32)}
    session = onnxruntime.InferenceSession(merged.model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(list(merged.outputs), feeds)
    np.testing.assert_array_equal(found[0], np.array([[1, 14, 39]], np.float32))
    np.testing.assert_array_equal(found[1], np.array([[3, 14, 13]], np.float32))
