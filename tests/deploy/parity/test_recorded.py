"""Files of every precision are held to what they gave when they were made, and to finite logits at the limits."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import write_golden
from edgedistill_deploy.images.golden import LIMIT_NAMES, limit_images
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.parity.check import ParityLimits, ParityReport, check_parity
from edgedistill_deploy.runtimes.opening import open_session
from reference import planted_faults as faults
from reference.colour_bundles import CLASS_NAMES, SIZE, colour_bundle, colour_images

CALIBRATION = CalibrationConfig(images=64, held_out=64, method="minmax", ledger_nodes=0)
QUANTISED = ("int8", "int8-tensorrt")
MADE = (*QUANTISED, "fp16", "int8-fp16-tensorrt")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated bundle of colours without a fault."""
    folder = tmp_path_factory.mktemp("sound")
    labels = np.arange(240) % len(CLASS_NAMES)
    names = np.array(CLASS_NAMES)
    np.savez(folder / "train.npz", images=colour_images(labels, seed=5), labels=labels, class_names=names)
    return calibrate(colour_bundle(folder / "run"), open_images(f"npz:{folder / 'train.npz'}").train, CALIBRATION).path


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(sound, tmp_path / "run", copy_function=os.link), verify=False)


def checked(bundle: Bundle, precision: str, *, strict: bool = False) -> ParityReport:
    with open_session(bundle, precision=precision, threads=1) as session:
        return check_parity(bundle, session, limits=ParityLimits(strict=strict))


def failed(report: ParityReport) -> set[str]:
    return {each.name for each in report.soundness.tests if not each.passed}


def open_questions(report: ParityReport) -> dict[str, str]:
    return {each.name: each.detail for each in report.soundness.not_checked}


def put_behind(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    faults.insert_after(model, "logits", list(nodes))


def add_softmax(model: onnx.ModelProto) -> None:
    put_behind(model, helper.make_node("Softmax", ["logits_before"], ["logits"], axis=1))


def add_bias(model: onnx.ModelProto) -> None:
    bias = faults.constant(model, "bias_of_three", np.array([3, 0, 0], np.float32))
    put_behind(model, helper.make_node("Add", ["logits_before", bias], ["logits"]))


def lose_three_percent(model: onnx.ModelProto) -> None:
    factor = faults.constant(model, "factor", np.array(0.97, np.float32))
    put_behind(model, helper.make_node("Mul", ["logits_before", factor], ["logits"]))


def pixels_of(model: onnx.ModelProto) -> str:
    """Return the first float value that the image becomes."""
    readers = ("Cast", "DequantizeLinear")
    return next(
        str(node.output[0]) for node in model.graph.node if node.op_type in readers and not _is_weight(model, node)
    )


def _is_weight(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return node.input[0] in {each.name for each in model.graph.initializer}


def change_gamma(model: onnx.ModelProto) -> None:
    value = pixels_of(model)
    white = faults.constant(model, "white", np.array(255, np.float32))
    gamma = faults.constant(model, "gamma", np.array(1.2, np.float32))
    nodes = [
        helper.make_node("Div", [f"{value}_before", white], ["share"]),
        helper.make_node("Pow", ["share", gamma], ["darker"]),
        helper.make_node("Mul", ["darker", white], [value]),
    ]
    faults.insert_after(model, value, nodes)


def shuffle_weight_scales(model: onnx.ModelProto) -> None:
    """Give each channel of the last layer's weight the scale of another."""
    faults.replace_weight(model, "towards_scale", lambda values: np.copyto(values, np.roll(values, 1)))


def move_zero_point(model: onnx.ModelProto) -> None:
    """Let what the first activation is read with have another zero point than what it is written with."""
    written = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    read = next(node for node in model.graph.node if node.input[:1] == written.output[:1])
    values = numpy_helper.to_array(faults.initializer(model, read.input[2]))
    read.input[2] = faults.constant(model, "moved", (values + values.dtype.type(40)).astype(values.dtype))


FAULTS: dict[str, Callable[[onnx.ModelProto], None]] = {
    "softmax": add_softmax,
    "bias": add_bias,
    "three percent": lose_three_percent,
    "gamma": change_gamma,
    "permuted": faults.permute_classes([1, 0, 2]),
    "shuffled scales": shuffle_weight_scales,
    "zero point": move_zero_point,
}


@pytest.mark.parametrize("precision", MADE)
def test_a_sound_file_gives_what_it_gave_when_it_was_made(bundle: Bundle, precision: str) -> None:
    report = checked(bundle, precision)
    numeric = report.soundness.numeric
    assert report.verdict == "pass", report.judgement.reasons
    assert failed(report) == set()
    assert "golden_outputs" not in open_questions(report)
    assert numeric.recorded_of == "file"
    assert numeric.max_abs_error is not None
    assert numeric.tolerance is not None
    assert numeric.max_abs_error <= numeric.tolerance


@pytest.mark.parametrize(
    ("fault", "precision"),
    [*((fault, "int8") for fault in FAULTS), ("shuffled scales", "int8-tensorrt"), ("bias", "fp16"), ("bias", "fp32")],
)
def test_a_changed_file_fails_although_its_accuracy_may_hold(bundle: Bundle, fault: str, precision: str) -> None:
    report = checked(faults.planted(bundle, FAULTS[fault], precision), precision)
    assert report.verdict == "fail"
    numeric = report.soundness.numeric
    assert numeric.tolerance is not None
    assert numeric.max_abs_error is not None
    assert numeric.max_abs_error > numeric.tolerance
    assert any(reason.startswith("The logits differ") for reason in report.judgement.reasons)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_file_that_is_not_finite_for_a_black_image_fails(bundle: Bundle, precision: str) -> None:
    def divide_by_brightness(model: onnx.ModelProto) -> None:
        axes = faults.constant(model, "all_pixels", np.array([1, 2, 3]))
        last = faults.constant(model, "last_axis", np.array([1]))
        put_behind(
            model,
            helper.make_node("Cast", ["image"], ["bright"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["bright", axes], ["mean"], keepdims=0),
            helper.make_node("Unsqueeze", ["mean", last], ["column"]),
            helper.make_node("Div", ["column", "column"], ["one"]),
            helper.make_node("Mul", ["logits_before", "one"], ["logits"]),
        )

    report = checked(faults.planted(bundle, divide_by_brightness, precision), precision)
    assert report.verdict == "fail"
    assert failed(report) == {"limits_of_the_input"}
    assert any(reason.endswith("not finite for an image of black.") for reason in report.judgement.reasons)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int8-tensorrt"])
def test_two_percent_of_the_batchs_mean_are_found(bundle: Bundle, precision: str) -> None:
    def subtract_from_all(model: onnx.ModelProto) -> None:
        axis, share = (
            faults.constant(model, "rows", np.array([0])),
            faults.constant(model, "share", np.array(0.02, np.float32)),
        )
        put_behind(
            model,
            helper.make_node("ReduceMean", ["logits_before", axis], ["mean_row"], keepdims=1),
            helper.make_node("Mul", ["mean_row", share], ["shift"]),
            helper.make_node("Sub", ["logits_before", "shift"], ["logits"]),
        )

    report = checked(faults.planted(bundle, subtract_from_all, precision), precision)
    assert report.verdict == "fail"
    assert "batch_of_one" in failed(report)


@pytest.mark.parametrize(
    ("registered", "given", "problem"),
    [
        ("int8", "fp32", "registered as int8, but it has no quantised node"),
        ("int8-fp16-tensorrt", "int8-tensorrt", "registered as int8-fp16-tensorrt, but it has no tensor in float16"),
        ("fp16", "fp32", "registered as fp16, but it has no tensor in float16"),
        ("fp16", "int8-fp16-tensorrt", r"registered as fp16, but it has \d+ quantised nodes"),
        ("fp32", "int8", r"registered as fp32, but it has \d+ quantised nodes"),
        ("fp32", "fp16", r"registered as fp32, but it has \d+ tensors or casts in float16"),
    ],
)
def test_a_file_of_another_precision_fails(bundle: Bundle, registered: str, given: str, problem: str) -> None:
    report = checked(bundle.with_file(f"model.{registered}", bundle.file(f"model.{given}")), registered)
    assert report.verdict == "fail"
    (check,) = (each for each in report.soundness.checks if each.name == "precision_of_the_file")
    with pytest.raises(AssertionError, match=problem):
        assert check.passed, check.detail


def test_a_bundle_of_an_earlier_version_says_that_int8_was_not_compared(bundle: Bundle) -> None:
    old = bundle.without_file("golden.int8").without_file("golden.fp16")
    report = checked(old, "int8")
    assert report.verdict == "pass"
    assert report.soundness.numeric.tolerance is None
    assert report.soundness.numeric.max_abs_error is not None  # against the student, to look at
    assert open_questions(report)["golden_outputs"] == (
        "Not checked, because no outputs of model.int8.onnx were recorded when it was made; calibrate it again."
    )
    half = checked(old, "fp16")
    assert "golden_outputs" not in open_questions(half)
    assert half.soundness.numeric.recorded_of == "student"


def test_without_golden_outputs_no_precision_is_compared(bundle: Bundle) -> None:
    report = checked(bundle.without_file("golden"), "fp32")
    assert open_questions(report)["golden_outputs"] == (
        "Not checked, because the bundle has no golden inputs and outputs; export it again."
    )


def test_outputs_for_other_inputs_are_not_compared(bundle: Bundle) -> None:
    images = colour_images(np.arange(5) % len(CLASS_NAMES), seed=8)
    (bundle.path / "golden.npz").unlink()
    write_golden(bundle.path / "golden.npz", images, np.ones((5, len(CLASS_NAMES)), np.float32))
    report = checked(bundle.with_file("golden", bundle.path / "golden.npz"), "int8")
    assert "were recorded for other golden inputs; calibrate it again" in open_questions(report)["golden_outputs"]


def test_strict_fails_each_check_that_was_not_made_and_blames_no_fault(bundle: Bundle) -> None:
    old = bundle.without_file("golden.int8")
    assert checked(old, "int8").verdict == "pass"
    report = checked(old, "int8", strict=True)
    assert report.verdict == "fail"
    sentences = [reason for reason in report.judgement.reasons if "--strict asks for it" in reason]
    assert [sentence.split()[1] for sentence in sentences] == list(open_questions(report))
    assert any("golden_outputs was not made" in each and "calibrate it again" in each for each in sentences)
    assert report.findings.diagnosis == ()


def test_the_mixed_file_is_computed_as_it_is_written_and_the_record_says_so(bundle: Bundle) -> None:
    report = checked(bundle, "int8-fp16-tensorrt")
    assert report.arithmetic.int8_kernels == "unfused"
    assert any("without fusing Q/DQ pairs (session.disable_quant_qdq=1)" in note for note in report.findings.notes)
    assert checked(bundle, "int8-tensorrt").arithmetic.int8_kernels != "unfused"


def test_images_at_the_limits_are_of_the_models_size(bundle: Bundle) -> None:
    (check,) = (each for each in checked(bundle, "int8").soundness.checks if each.name == "limits_of_the_input")
    assert check.detail == f"The logits are finite for {', '.join(LIMIT_NAMES)}."
    assert limit_images(bundle.preprocess.size).shape == (len(LIMIT_NAMES), SIZE, SIZE, 3)
