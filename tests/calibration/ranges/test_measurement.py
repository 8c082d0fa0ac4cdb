"""Measured ranges against ONNX Runtime's own calibrator, against slow arithmetic, and in memory that does not grow."""

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, create_calibrator

from edgedistill_calibration.graphs import reading
from edgedistill_calibration.graphs.preparation import activations, prepare_graph
from edgedistill_calibration.graphs.reading import ActivationReader, Images
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS
from edgedistill_calibration.ranges import measurement
from edgedistill_calibration.ranges.measurement import measure_ranges
from edgedistill_deploy.errors import EdgeDistillError
from reference.fitted_networks import shape_images, write_network

ALL = ("minmax", "moving-average", "percentile-99.999", "percentile-99.99")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fitted network, prepared."""
    folder = tmp_path_factory.mktemp("network")
    prepare_graph(write_network(folder / "float.onnx"), folder / "prepared.onnx")
    return folder / "prepared.onnx"


def groups_of(images: Images) -> Callable[[int], Iterator[Images]]:
    def groups(size: int) -> Iterator[Images]:
        return (images[start : start + size] for start in range(0, len(images), size))

    return groups


def reader_of(path: Path) -> ActivationReader:
    model = onnx.load(path)
    return ActivationReader(model, activations(model.graph, MEASURED_OPERATORS))


def values_of(path: Path, names: tuple[str, ...], images: Images) -> dict[str, NDArray[np.float32]]:
    """Every value for every image, by running the graph once for each and leaving ONNX Runtime's optimiser out."""
    model = onnx.load(path)
    known = {each.name: each for each in (*model.graph.value_info, *model.graph.output)}
    del model.graph.output[:]
    model.graph.output.extend(known[name] for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [session.run(list(names), {"image": image[None]}) for image in images]
    return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}


class _OneByOne:
    def __init__(self, images: Images) -> None:
        self._left = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._left, None)
        return None if image is None else {"image": image[None]}


def test_minmax_is_what_onnx_runtime_measures_itself(network: Path, tmp_path: Path) -> None:
    images, _ = shape_images(10, seed=5)
    theirs = create_calibrator(
        network,
        list(MEASURED_OPERATORS),
        augmented_model_path=str(tmp_path / "augmented.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    theirs.collect_data(_OneByOne(images))
    expected = {name: each.range_value for name, each in theirs.compute_data().items()}
    ours = measure_ranges(reader_of(network), groups_of(images), ["minmax"])["minmax"]
    assert set(ours) == set(expected)
    for name, bounds in ours.items():
        assert bounds == pytest.approx([float(np.squeeze(each)) for each in expected[name]], rel=1e-5, abs=1e-6)


def test_every_method_is_its_definition_worked_out_slowly(network: Path) -> None:
    images, _ = shape_images(10, seed=6)
    reader = reader_of(network)
    measured = measure_ranges(reader, groups_of(images), ALL)
    assert list(measured) == list(ALL)
    for name, values in values_of(network, reader.names, images).items():
        flat = values.astype(np.float64).ravel()
        width = (flat.max() - flat.min()) / measurement.BINS
        close = {"abs": 1e-4 * np.abs(flat).max()}
        assert measured["minmax"][name] == pytest.approx([flat.min(), flat.max()], **close)
        assert measured["moving-average"][name] == pytest.approx(_slow_average(values), **close)
        for method, percent in (("percentile-99.999", 99.999), ("percentile-99.99", 99.99)):
            tail = (100 - percent) / 2
            expected = [
                np.percentile(flat, tail, method="inverted_cdf"),
                np.percentile(flat, 100 - tail, method="inverted_cdf"),
            ]
            assert measured[method][name] == pytest.approx(expected, abs=1.5 * width)


def _slow_average(values: NDArray[np.float32]) -> list[float]:
    averages: list[float] = []
    for start in range(0, len(values), 16):
        extremes = [float(values[start : start + 16].min()), float(values[start : start + 16].max())]
        averages = (
            [0.9 * old + 0.1 * new for old, new in zip(averages, extremes, strict=True)] if averages else extremes
        )
    return averages


def test_ranges_do_not_depend_on_how_many_images_run_at_a_time(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = shape_images(9, seed=7)
    whole = measure_ranges(reader_of(network), groups_of(images), ALL)
    monkeypatch.setattr(reading, "CHUNK_BYTES", 1)
    single = measure_ranges(reader_of(network), groups_of(images), ALL)
    for method in ALL:
        for name, bounds in whole[method].items():
            assert single[method][name] == pytest.approx(bounds, rel=1e-4, abs=1e-4)


def test_activations_are_read_in_pieces_of_the_size_allowed(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = shape_images(8, seed=0)
    reader = reader_of(network)
    image_bytes = sum(value.nbytes for value in next(reader.read(images[:1])))
    monkeypatch.setattr(reading, "CHUNK_BYTES", 5 * image_bytes)
    counts = [len(values[0]) for values in reader_of(network).read(images)]
    assert counts == [1, 5, 5, 5, 5, 5, 5, 1]


def peak_bytes(network: Path, image_count: int) -> int:
    """The most Python memory that measuring takes with images made as they are asked for."""
    reader = reader_of(network)

    def groups(size: int) -> Iterator[Images]:
        for start in range(0, image_count, size):
            yield np.random.default_rng(start).integers(0, 256, (size, 24, 24, 3), dtype=np.uint8)

    tracemalloc.start()
    try:
        measure_ranges(reader, groups, (*ALL, "least-squares"))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(network: Path) -> None:
    few, many = peak_bytes(network, 32), peak_bytes(network, 640)
    assert many < 1.05 * few
    # Holding the activations of the other 608 images would take many times what is allowed here.
    images, _ = shape_images(8, seed=0)
    held = sum(value.nbytes for value in values_of(network, reader_of(network).names, images).values())
    assert 19 * held > 20 * (0.05 * few)


def test_noise_has_other_ranges_than_images(network: Path) -> None:
    images, _ = shape_images(16, seed=1)
    noise = np.random.default_rng(0).integers(0, 256, images.shape, dtype=np.uint8)
    real = measure_ranges(reader_of(network), groups_of(images), ["minmax"])["minmax"]
    made_up = measure_ranges(reader_of(network), groups_of(noise), ["minmax"])["minmax"]
    ratios = [made_up[name][1] / bounds[1] for name, bounds in real.items() if bounds[1] > 0]
    assert max(max(ratios), 1 / min(ratios)) > 1.5


def one_conv(path: Path, weight: float, bias: float) -> Path:
    """`image` to floats, then a 1 x 1 convolution of one weight to one channel."""
    nodes = [
        helper.make_node("Transpose", ["image"], ["moved"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["moved"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "weight", "bias"], ["found"]),
        helper.make_node("ReduceMean", ["found", "axes"], ["logits"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1])],
        [
            numpy_helper.from_array(np.full((1, 3, 1, 1), weight, np.float32), "weight"),
            numpy_helper.from_array(np.full(1, bias, np.float32), "bias"),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_a_constant_value_keeps_its_one_value(tmp_path: Path) -> None:
    prepare_graph(one_conv(tmp_path / "constant.onnx", 0.0, 2.5), tmp_path / "prepared.onnx")
    images = np.zeros((20, 4, 4, 3), np.uint8)
    measured = measure_ranges(reader_of(tmp_path / "prepared.onnx"), groups_of(images), ALL)
    assert {method: each["found"] for method, each in measured.items()} == dict.fromkeys(ALL, (2.5, 2.5))


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    prepare_graph(one_conv(tmp_path / "huge.onnx", 3e38, 0.0), tmp_path / "prepared.onnx")
    images = np.full((2, 4, 4, 3), 255, np.uint8)
    with pytest.raises(EdgeDistillError, match=r"value 'found' is not finite on calibration images, .* train"):
        measure_ranges(reader_of(tmp_path / "prepared.onnx"), groups_of(images), ["minmax"])


def test_no_images_at_all_are_refused(network: Path) -> None:
    with pytest.raises(EdgeDistillError, match="no images to measure ranges on"):
        measure_ranges(reader_of(network), groups_of(np.zeros((0, 24, 24, 3), np.uint8)), ["minmax"])


def test_ranges_do_not_depend_on_the_pieces_that_values_are_counted_in(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, _ = shape_images(2, seed=8)
    whole = measure_ranges(reader_of(network), groups_of(images), (*ALL, "least-squares"))
    monkeypatch.setattr(reading, "_BLOCK", 1001)
    assert measure_ranges(reader_of(network), groups_of(images), (*ALL, "least-squares")) == whole
