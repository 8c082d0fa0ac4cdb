"""Faults planted in one node are found there, whatever its place; sound pairs agree everywhere."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgedistill.export.bundle import Deployed, write_onnx
from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.diagnosis._corresponding import corresponding_values, module_of
from edgedistill_deploy.diagnosis.bisect import (
    Prober,
    Side,
    find_divergence,
    precision_of,
    relative_error,
    write_bisect,
)
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.onnx_files.graph import read_graph
from edgedistill_deploy.progress import silent
from reference.faulty_models import divide_by_zero, hide_fault, scale_weight, shift_zero_point
from reference.fitted_networks import shape_images
from reference.measured_models import write_model
from reference.shape_bundles import float_bundle, labelled


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The fitted network and its INT8 files."""
    folder = tmp_path_factory.mktemp("bisect")
    made = float_bundle(folder / "bundle")
    training = labelled(folder / "training.npz", *shape_images(40, seed=1))
    return calibrate(
        made,
        training,
        CalibrationConfig(images=64, held_out=64, method="minmax", profile="x86", fp16=False, ledger_nodes=0),
    )


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return shape_images(1, seed=7)[0][:1]


def side(bundle: Bundle, precision: str, path: Path | None = None, *, optimised: bool = True) -> Side:
    return Side(path=path or bundle.file(f"model.{precision}"), precision=precision, optimised=optimised)


@pytest.mark.parametrize("node", ["stem", "inner_1", "inner_2", "longer_1", "longer_2", "shortcut", "last", "head"])
def test_a_scaled_weight_is_found_wherever_it_is(
    node: str, bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    faulty = scale_weight(bundle.file("model.fp32"), tmp_path / "faulty.onnx", node, 1.05)
    report = find_divergence(bundle, side(bundle, "fp32"), side(bundle, "fp32", faulty), pixels, threads=1)
    assert report.verdict == "diverge"
    assert report.first is not None
    assert report.first.node == node
    assert all(each.agrees for each in report.first.inputs)
    assert report.method == "bisection"
    assert report.run_count <= 8
    assert report.output_error > 1e-3
    assert report.first.error == pytest.approx(0.05, abs=0.03)  # the bias is not scaled
    assert f"They differ first at {report.first.operator} {node}: its result" in report.sentence


@pytest.mark.parametrize("precision", ["int8", "int8-tensorrt"])
@pytest.mark.parametrize("node", ["stem", "inner_2", "shortcut", "last"])
def test_a_scaled_int8_weight_is_found(
    node: str, precision: str, bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    faulty = scale_weight(bundle.file(f"model.{precision}"), tmp_path / "faulty.onnx", node, 0.3)
    report = find_divergence(bundle, side(bundle, "fp32"), side(bundle, precision, faulty), pixels, threads=1)
    assert report.first is not None
    assert report.first.node == node
    assert report.first.operator == "Conv"
    assert all(each.agrees for each in report.first.inputs)


def test_a_shifted_zero_point_is_found_between_sound_nodes(
    bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    source = bundle.file("model.int8")
    pairs = [node.name for node in read_graph(source).nodes if node.operator == "DequantizeLinear"]
    for name in [each for each in pairs if each.startswith(("add_", "globalaveragepool"))]:
        faulty = shift_zero_point(source, tmp_path / "faulty.onnx", name, 100)
        report = find_divergence(bundle, side(bundle, "fp32"), side(bundle, "int8", faulty), pixels, threads=1)
        assert report.first is not None
        assert name in report.first.suspects
        assert report.first.value.startswith(name.removesuffix("DequantizeLinear"))


@pytest.mark.parametrize("precision", ["int8", "int8-tensorrt"])
def test_sound_quantised_models_agree_everywhere(precision: str, bundle: Bundle) -> None:
    for image, pixels in enumerate(shape_images(1, seed=9)[0]):
        report = find_divergence(
            bundle, side(bundle, "fp32"), side(bundle, precision), pixels[None], image=image, threads=1
        )
        assert report.verdict == "agree"
        assert report.first is None
        assert report.compared_count == report.value_count > 20
        assert report.sentence.startswith("No difference was found")
        assert 0 < max(each.error for each in report.measured) < report.tolerance


@pytest.mark.parametrize("names", [("int8", "int8-tensorrt"), ("int8-tensorrt", "int8"), ("int8", "fp32")])
def test_sound_models_agree_whichever_is_searched(
    names: tuple[str, str], bundle: Bundle, pixels: NDArray[np.uint8]
) -> None:
    reference, candidate = (side(bundle, name) for name in names)
    report = find_divergence(bundle, reference, candidate, pixels, threads=1)
    assert report.first is None, report.sentence
    assert report.compared_count == report.value_count > 12


@pytest.mark.parametrize("precision", ["fp32", "int8", "int8-tensorrt"])
def test_graph_optimisation_changes_nothing(precision: str, bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    written = side(bundle, precision, optimised=False)
    report = find_divergence(bundle, written, side(bundle, precision), pixels, threads=1)
    assert report.verdict == "agree"
    assert report.tolerance <= 0.1


def test_numbers_that_are_not_finite_are_found_where_they_arise(
    bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    faulty = divide_by_zero(bundle.file("model.fp32"), tmp_path / "faulty.onnx", "relu_5")
    report = find_divergence(bundle, side(bundle, "fp32"), side(bundle, "fp32", faulty), pixels, threads=1)
    assert report.first is not None
    assert report.first.node == "broken"
    assert report.first.error == np.inf
    assert report.first.snr_db is None
    assert report.to_json()["first"]["error"] is None


def test_a_fault_that_the_output_does_not_show_is_found_too(
    bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    faulty = hide_fault(bundle.file("model.fp32"), tmp_path / "faulty.onnx", "inner_1", 2.0)
    report = find_divergence(bundle, side(bundle, "fp32"), side(bundle, "fp32", faulty), pixels, threads=1)
    assert report.output_error < 1e-3
    assert (report.method, report.method_reason) == ("scan", "the outputs agree")
    assert report.first is not None
    assert report.first.node == "inner_1"


def test_a_difference_that_looking_inside_removes_is_said_to_be_an_optimisation_s(
    bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    fp32 = side(bundle, "fp32")
    graph = read_graph(fp32.path)
    points = corresponding_values(graph, graph)
    output = next(number for number, point in enumerate(points) if point.value == "logits")
    prober = Prober(
        sides=(fp32, fp32),
        graphs=(graph, graph),
        points=points,
        pixels=pixels,
        tolerance=1e-3,
        folder=tmp_path,
        threads=1,
        progress=silent,
        errors={output: 0.5},  # as if the fused graph had answered otherwise
    )
    assert not prober.notes
    assert prober.look([output, 4]) == [False, True]
    told = f"Reading {points[4].value} inside the model made its output agree"
    assert [note.startswith(told) for note in prober.notes] == [True]


def test_the_record_is_plain_json_in_the_bundle(bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    runs: list[int] = []
    report = find_divergence(
        bundle,
        side(bundle, "fp32", optimised=False),
        side(bundle, "int8"),
        pixels,
        image=3,
        tolerance=0.25,
        threads=1,
        progress=lambda done, total, note="": runs.append(done),
    )
    path = write_bisect(bundle, report)
    assert path.name == "model.fp32-onnxruntime-cpu-unoptimised-against-model.int8-onnxruntime-cpu.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record == report.to_json()
    assert (record["kind"], record["schema"], record["image"], record["tolerance"]) == ("bisect", 1, 3, 0.25)
    assert record["candidate_sha256"] == bundle.model_sha256("model.int8")
    assert record["reference"]["optimised"] is False
    assert runs == list(range(1, report.run_count + 1))


def test_models_of_other_students_are_refused(bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    other = write_model(tmp_path / "other.onnx", "no_logits")
    with pytest.raises(BundleError, match=r"other.onnx and model.fp32.onnx have no output in common"):
        find_divergence(bundle, side(bundle, "fp32"), side(bundle, "fp32", other), pixels)
    for tolerance in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=r"The tolerance is .*; it must be above 0"):
            find_divergence(bundle, side(bundle, "fp32"), side(bundle, "fp32"), pixels, tolerance=tolerance)


def test_a_bare_file_tells_whether_it_is_quantised(bundle: Bundle) -> None:
    found = [precision_of(bundle.file(f"model.{each}")) for each in ("fp32", "int8", "int8-tensorrt")]
    assert found == ["fp32", "int8", "int8"]


def test_the_relative_error_is_that_of_root_mean_squares() -> None:
    wanted = np.array([3.0, 4.0])
    assert relative_error(wanted, np.array([3.0, 4.5])) == pytest.approx(0.1)
    assert relative_error(wanted, wanted) == 0
    assert relative_error(wanted, np.array([3.0, 4.0, 0.0])) == np.inf
    assert relative_error(wanted, np.array([3.0, np.nan])) == np.inf
    assert relative_error(np.array([np.inf, 1.0]), np.array([np.inf, 1.0])) == 0
    assert relative_error(np.zeros(4), np.full(4, 1e-9)) < 1e-2
    assert relative_error(np.zeros(4), np.ones(4)) > 1
    assert relative_error(np.array([True]), np.array([False])) == 0
    assert relative_error(np.array([True]), np.array([False, True])) == np.inf
    assert relative_error(np.array([250], np.uint8), np.array([255], np.uint8)) == pytest.approx(0.02)
    assert relative_error(np.array(["a"]), np.array(["a"])) == 0
    assert relative_error(np.array(["a"]), np.array(["b"])) == np.inf


def test_nodes_of_an_exported_student_are_called_by_their_modules(tmp_path: Path) -> None:
    teacher = load_teacher("embedded:glyphs100")
    student = build_student("plain:8-8-8-8", 4)
    path = tmp_path / "model.fp32.onnx"
    write_onnx(Deployed(student, teacher.normalise()), teacher.preprocess.size, path, opset=20, metadata={})
    graph = read_graph(path)
    modules = dict(student.named_modules())
    found = [(node.operator, module_of(graph, node)) for node in graph.nodes]
    weighted = [module for operator, module in found if operator in ("Conv", "Gemm")]
    assert len(weighted) >= 5
    for module in weighted:
        assert module is not None
        assert module.relation == "of"
        assert module.name in modules
    rectified = [module for operator, module in found if operator == "Relu"]
    assert rectified
    assert all(module is not None and module.relation == "after" for module in rectified)


def test_a_relu_that_the_quantiser_dropped_is_matched_behind_the_pair(bundle: Bundle) -> None:
    fp32, int8 = read_graph(bundle.file("model.fp32")), read_graph(bundle.file("model.int8"))
    points = {point.value: point for point in corresponding_values(fp32, int8)}
    dropped = [
        node.outputs[0]
        for node in fp32.nodes
        if node.operator == "Relu"
        and node.outputs[0] in int8.makers
        and int8.makers[node.outputs[0]].operator == "Conv"
    ]
    assert dropped
    for value in dropped:
        assert value not in points
        assert points[f"{value}_DequantizeLinear_Output"].reference_value == value
    names = {node.name for node in onnx.load(bundle.file("model.int8")).graph.node}
    assert all({node.name for node in point.suspects} <= names for point in points.values())
