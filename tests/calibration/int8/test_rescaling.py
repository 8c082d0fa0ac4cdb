"""Other ranges for a quantised graph: the same, bit by bit, as ONNX Runtime's quantiser writes for them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgedistill_calibration.graphs.preparation import activations, prepare_graph
from edgedistill_calibration.graphs.reading import ActivationReader
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, Target, blank_image, quantise_plain, targets
from edgedistill_calibration.int8._rescaling import rescale
from edgedistill_calibration.ranges.measurement import Ranges, measure_ranges
from reference.fitted_networks import SIZE, fitted_weights, shape_images, write_network

METHODS = ("minmax", "least-squares", "percentile-99.99")


@pytest.fixture(scope="module", params=["Relu", "Clip"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    prepare_graph(write_network(folder / "float.onnx", activation=request.param), folder / "prepared.onnx")
    return folder / "prepared.onnx"


def ranges_of(prepared: Path) -> dict[str, Ranges]:
    model = onnx.load(prepared)
    reader = ActivationReader(model, activations(model.graph, MEASURED_OPERATORS))
    return {**measure_ranges(reader, lambda size: [shape_images(4, seed=3)[0]], METHODS)}


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def is_same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def direct(prepared: Path, target: Target, ranges: Ranges, path: Path) -> onnx.ModelProto:
    return quantise_plain(prepared, path, target, ranges, blank_image((SIZE, SIZE)))


@pytest.mark.parametrize(("profile", "kind"), [("x86", "int8"), ("arm", "int8"), ("x86", "int8-tensorrt")])
def test_every_candidate_is_what_the_quantiser_writes(profile: str, kind: str, prepared: Path, tmp_path: Path) -> None:
    target, measured = targets(profile)[kind], ranges_of(prepared)
    floats = {each.name: each for each in onnx.load(prepared).graph.initializer}
    first = direct(prepared, target, measured["minmax"], tmp_path / "first.onnx")
    whole = first.SerializeToString()
    for method in METHODS[1:]:
        wanted = direct(prepared, target, measured[method], tmp_path / f"{method}.onnx")
        made = rescale(first, measured[method], floats, symmetric=target.symmetric)
        assert made is not None
        assert [str(node) for node in made.graph.node] == [str(node) for node in wanted.graph.node]
        ours, theirs = (constants_of(model) for model in (made, wanted))
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not is_same(ours[name], theirs[name])] == []
        assert made.SerializeToString() != whole
    assert first.SerializeToString() == whole


@pytest.fixture(scope="module")
def cramped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with channels that give nearly always the same: their biases do not fit 32 bits beside the weights."""
    weights = {**fitted_weights()}
    for name in ("stem", "inner_1", "last"):
        kernel, bias = weights[name]
        factors = np.ones((len(kernel), 1, 1, 1), np.float32)
        factors[::2, 0, 0, 0] = np.geomspace(1e-7, 1e-4, len(factors[::2]))
        weights[name] = (kernel * factors, bias + np.float32(0.7))
    folder = tmp_path_factory.mktemp("cramped")
    prepare_graph(write_network(folder / "float.onnx", weights=weights), folder / "prepared.onnx")
    return folder / "prepared.onnx"


@pytest.mark.parametrize("stretch", [0.4, 3.0])
def test_where_a_bias_widens_scales_the_candidates_are_the_quantisers_too(
    stretch: float, cramped: Path, tmp_path: Path
) -> None:
    """Ranges become wider and narrower than those of the first file, so that other channels are cramped."""
    target, ranges = targets("x86")["int8"], ranges_of(cramped)["minmax"]
    floats = {each.name: each for each in onnx.load(cramped).graph.initializer}
    others = {name: (low * stretch, high * stretch) for name, (low, high) in ranges.items()}
    first = direct(cramped, target, ranges, tmp_path / "first.onnx")
    wanted = constants_of(direct(cramped, target, others, tmp_path / "others.onnx"))
    made = rescale(first, others, floats, symmetric=False)
    assert made is not None
    ours, before = constants_of(made), constants_of(first)
    assert [name for name in wanted if not is_same(ours[name], wanted[name])] == []
    assert [name for name in wanted if wanted[name].dtype == np.int8 and not is_same(before[name], wanted[name])]


def test_a_file_whose_scales_were_widened_otherwise_is_not_rescaled(cramped: Path, tmp_path: Path) -> None:
    target, ranges = targets("x86")["int8"], ranges_of(cramped)["minmax"]
    floats = {each.name: each for each in onnx.load(cramped).graph.initializer}
    first = direct(cramped, target, ranges, tmp_path / "first.onnx")
    weight = next(node for node in first.graph.node if node.name == "inner_1").input[1]
    maker = next(node for node in first.graph.node if weight in node.output)
    scales = next(each for each in first.graph.initializer if each.name == maker.input[1])
    changed = numpy_helper.to_array(scales).copy()
    changed[0] *= 1.2  # a cramped channel
    scales.CopyFrom(numpy_helper.from_array(changed, scales.name))
    assert rescale(first, ranges, floats, symmetric=False) is None


def test_a_value_without_a_range_is_not_guessed(prepared: Path, tmp_path: Path) -> None:
    target, ranges = targets("x86")["int8"], ranges_of(prepared)["minmax"]
    first = direct(prepared, target, ranges, tmp_path / "first.onnx")
    read = next(node.input[0] for node in first.graph.node if node.op_type == "QuantizeLinear")
    floats = {each.name: each for each in onnx.load(prepared).graph.initializer}
    assert rescale(first, ranges, floats, symmetric=False) is not None
    missing = {name: bounds for name, bounds in ranges.items() if name != read}
    assert rescale(first, missing, floats, symmetric=False) is None
