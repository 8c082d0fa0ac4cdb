"""Nodes put back to float: all of them give the float graph again, one of them is float in all that it reads."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgedistill_calibration.graphs.preparation import activations, finish_graph, prepare_graph
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, quantise, targets
from edgedistill_calibration.int8.float_nodes import MixedPrecision
from edgedistill_calibration.ranges.measurement import measure_ranges
from reference.as_written import open_as_written
from reference.fitted_networks import SIZE, shape_images, write_network
from reference.qdq import QdqGraph

NODES = ("stem", "inner_1", "inner_2", "longer_1", "longer_2", "shortcut", "last", "head")
IMAGES = shape_images(16, seed=3)[0]


def logits_of(model: onnx.ModelProto) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = open_as_written(model).run(["logits"], {"image": IMAGES})[0]
    return logits


def sqnr_db(wanted: NDArray[np.float32], given: NDArray[np.float32]) -> float:
    noise = float(np.sum((wanted - given) ** 2))
    return float("inf") if noise == 0 else float(10 * np.log10(np.sum(wanted**2) / noise))


@pytest.fixture(scope="module", params=["Relu", "Clip"])
def float_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    path = write_network(folder / "float.onnx", activation=request.param)
    prepare_graph(path, folder / "prepared.onnx")
    return folder / "prepared.onnx"


@pytest.fixture(scope="module", params=["int8", "int8-tensorrt"])
def mixed(
    request: pytest.FixtureRequest, float_graph: Path, tmp_path_factory: pytest.TempPathFactory
) -> MixedPrecision:
    path = tmp_path_factory.mktemp("mixed") / "int8.onnx"
    prepared = onnx.load(float_graph)
    reader = ActivationReader(prepared, activations(prepared.graph, MEASURED_OPERATORS))
    ranges = measure_ranges(reader, lambda size: [IMAGES], ["minmax"])["minmax"]
    model = quantise(float_graph, path, targets("x86")[request.param], ranges, (SIZE, SIZE))
    finish_graph(model, prepared, {})
    return MixedPrecision(prepared, model)


def graph_of(model: onnx.ModelProto, path: Path) -> QdqGraph:
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return QdqGraph(path)


def test_every_node_with_weights_is_found(mixed: MixedPrecision) -> None:
    assert sorted(mixed.nodes) == sorted(NODES)


def test_without_any_float_node_the_graph_is_as_it_was(mixed: MixedPrecision, tmp_path: Path) -> None:
    assert mixed.float_nodes(mixed.leaving([])) == []
    assert sqnr_db(logits_of(mixed.leaving([])), logits_of(mixed.leaving(()))) == float("inf")


def test_all_nodes_in_float_are_the_float_graph(mixed: MixedPrecision, float_graph: Path, tmp_path: Path) -> None:
    graph = graph_of(mixed.leaving(NODES), tmp_path / "float.onnx")
    assert not list(graph.of("QuantizeLinear", "DequantizeLinear"))
    prepared = onnx.load(float_graph)
    assert sorted(node.op_type for node in graph.nodes) == sorted(node.op_type for node in prepared.graph.node)
    np.testing.assert_array_equal(logits_of(graph.model), logits_of(prepared))


@pytest.mark.parametrize("name", NODES)
def test_one_node_in_float_reads_float_values_and_the_others_still_int8(
    name: str, mixed: MixedPrecision, float_graph: Path, tmp_path: Path
) -> None:
    model = mixed.leaving([name])
    graph = graph_of(model, tmp_path / "mixed.onnx")
    assert mixed.float_nodes(model) == [name]
    weighted = {node.name: node for node in graph.of("Conv", "Gemm", "MatMul")}
    for other, node in weighted.items():
        weight = graph.dequantised(node.input[1])
        assert (weight is None) == (other == name)
        assert (graph.dequantised(node.input[0]) is None) == (other == name)
    stored = graph.constants[weighted[name].input[1]]
    source = QdqGraph(float_graph)
    np.testing.assert_array_equal(
        stored, source.constants[next(node for node in source.nodes if node.name == name).input[1]]
    )
    wanted = logits_of(onnx.load(float_graph))
    assert sqnr_db(wanted, logits_of(model)) > 20


@pytest.mark.parametrize("name", NODES)
def test_one_node_in_int8_alone_is_nearer_to_float_than_all_are(
    name: str, mixed: MixedPrecision, float_graph: Path, tmp_path: Path
) -> None:
    model = mixed.leaving([node for node in NODES if node != name])
    graph = graph_of(model, tmp_path / "alone.onnx")
    quantised = [node.name for node in graph.of("Conv", "Gemm") if graph.dequantised(node.input[1])]
    assert quantised == [name]
    wanted = logits_of(onnx.load(float_graph))
    alone, whole = (sqnr_db(wanted, logits_of(each)) for each in (model, mixed.leaving([])))
    assert whole < alone < float("inf")


def test_an_add_reads_float_once_no_node_needs_its_input_in_int8(mixed: MixedPrecision, tmp_path: Path) -> None:
    # The first residual Add reads inner_2 and, past a ReLU, the stem, which inner_1 reads too.
    graph = graph_of(mixed.leaving(["inner_1", "inner_2", "stem"]), tmp_path / "mixed.onnx")
    add = next(node for node in graph.of("Add") if "Conv" in graph.upstream(node.output[0]))
    assert all(graph.dequantised(name) is None for name in add.input)
    whole = graph_of(mixed.leaving([]), tmp_path / "whole.onnx")
    assert any(whole.dequantised(name) for add in whole.of("Add") for name in add.input)
