"""Known faults, planted into a real exported model, each caught by its own name; and the sound model, caught by none.

The expert is the embedded teacher restricted to the ten digits, exported and calibrated by the product: it loses
nothing, so that whatever is found was planted. Colours matter to no digit; their faults are planted into a colour task.
"""

import copy
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from torch import nn

from edgedistill.data.sources import open_source
from edgedistill.export.bundle import export_onnx
from edgedistill.models.teacher import load_teacher
from edgedistill.subtasks.subtask import find_subtask
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.images.sets import ImageSet, ImageSplits
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.parity.check import ParityReport, check_parity
from edgedistill_deploy.runtimes.opening import open_session
from reference import planted_faults as faults
from reference.colour_bundles import colour_bundle

WEIGHT = "model.layer3.0.conv2.weight"
DIGITS = "0123456789"

CALIBRATION = CalibrationConfig(images=50, held_out=50, method="minmax", fp16=False, ledger_nodes=0)


@pytest.fixture(scope="module")
def digits() -> ImageSplits:
    """The embedded digits, unpacked once."""
    return open_source("embedded:digits")


@pytest.fixture(scope="module")
def images(digits: ImageSplits) -> ImageSet:
    """Every seventh test image; the digits take turns there."""
    test = digits.test
    assert test is not None
    return test.select(np.arange(0, len(test), 7))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, digits: ImageSplits, images: ImageSet) -> Path:
    """The bundle without a fault, in fp32, fp16 and both kinds of INT8."""
    teacher = load_teacher("embedded:glyphs100")
    subtask = find_subtask(teacher.class_names, list(DIGITS))
    bundle = export_onnx(
        restricted(teacher.model, tuple(index for (index,) in subtask.members)),
        teacher,
        subtask,
        images,
        tmp_path_factory.mktemp("sound") / "run",
    )
    bundle = calibrate(bundle, digits.train, CALIBRATION)
    write_half(bundle.file("model.fp32"), bundle.path / "model.fp16.onnx")
    bundle.with_file("model.fp16", bundle.path / "model.fp16.onnx")
    return bundle.path


def restricted(model: nn.Module, rows: tuple[int, ...]) -> nn.Module:
    """Return a copy of a network whose last layer keeps only these classes."""
    copied = copy.deepcopy(model)
    assert isinstance(copied.fc, nn.Linear)
    copied.fc.weight = nn.Parameter(copied.fc.weight[list(rows)].detach())
    copied.fc.bias = nn.Parameter(copied.fc.bias[list(rows)].detach())
    return copied


def write_half(source: Path, path: Path) -> None:
    """Let ONNX Runtime's own converter make the weights and the arithmetic float16."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of every weight that becomes 0
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), path)


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Bundle:
    """A bundle to plant faults into; the sound one's files are linked, not copied."""
    return open_bundle(shutil.copytree(sound, tmp_path / "run", copy_function=os.link), verify=False)


def checked(bundle: Bundle, precision: str = "fp32", images: ImageSet | None = None) -> ParityReport:
    with open_session(bundle, precision=precision, threads=1) as session:
        return check_parity(bundle, session, images)


def names_in(report: ParityReport) -> set[str]:
    """Everything that the record holds against a model, by name."""
    checks = {each.name for each in report.soundness.checks if not each.passed}
    relations = {each.name for each in report.soundness.metamorphic if not each.passed}
    return {each.name for each in report.findings.diagnosis} | checks | relations


@pytest.mark.parametrize("precision", ["teacher", "fp32", "fp16", "int8", "int8-tensorrt"])
def test_the_sound_model_passes_in_every_precision(bundle: Bundle, precision: str, images: ImageSet) -> None:
    report = checked(bundle, precision, images)
    assert report.verdict == "pass", report.judgement.reasons
    assert names_in(report) == set()
    assert {check.name for check in report.soundness.checks} == {
        "preprocess_digest",
        "class_names",
        "golden_images",
        "precision_of_the_file",
        "limits_of_the_input",
        "reference_names",
        "teacher_reference",
    }
    assert report.images.sample_count == len(images) > 400


NORMALISATION = {
    "double_normalisation": faults.normalise_twice,
    "missing_normalisation": faults.forget_normalisation,
    "pixels_not_scaled": faults.forget_to_scale,
    "pixels_scaled_twice": faults.scale_twice,
    "inverted_pixels": faults.invert,
}


@pytest.mark.parametrize(
    ("name", "precision"),
    # Of these digits INT8's ranges cut a second normalisation off, and little is lost.
    [*((name, "fp32") for name in NORMALISATION), ("missing_normalisation", "int8"), ("pixels_not_scaled", "int8")],
)
def test_a_wrong_normalisation(bundle: Bundle, name: str, precision: str) -> None:
    report = checked(faults.planted(bundle, NORMALISATION[name], precision), precision)
    assert report.verdict == "fail"
    assert names_in(report) == {name}


def test_blue_before_red(tmp_path: Path) -> None:
    report = checked(faults.planted(colour_bundle(tmp_path / "b"), faults.swap_channels))
    assert report.verdict == "fail"
    assert names_in(report) == {"swapped_channels"}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_permuted_classes(bundle: Bundle, precision: str) -> None:
    order = [0, 1, 2, 3, 4, 5, 9, 7, 8, 6]
    report = checked(faults.planted(bundle, faults.permute_classes(order), precision), precision)
    assert report.verdict == "fail"
    assert names_in(report) == {"permuted_classes"}
    assert "'6' and '9' are interchanged" in report.findings.diagnosis[0].detail


LAST_LAYER = "model.fc.weight"
FAULTS_OF_A_FILE: dict[str, tuple[faults.Plant, str]] = {
    "gamma": (faults.bend(2.2), "other_gamma"),
    "shift": (faults.roll(5, 64), "moved_pixels"),
    "raised class": (faults.raise_class(3, 5.0, 10), "shifted_logits"),
    "softmax": (faults.take_softmax, "softmax_behind_logits"),
}
FAULTS_OF_INT8: dict[str, tuple[faults.Plant, str]] = {
    "shuffled scales": (
        faults.change_tensors(f"{WEIGHT}_scale", lambda values: np.random.default_rng(0).permutation(values)),
        "damaged_weight",
    ),
    "flipped sign": (
        faults.change_tensors(f"{LAST_LAYER}_quantized", lambda values: -np.clip(values, -127, 127)),
        "damaged_weight",
    ),
    "zero points": (
        faults.change_tensors("relu_1_zero_point", lambda values: np.asarray(values, np.int64) + 40),
        "damaged_scale",
    ),
}


@pytest.mark.parametrize(
    ("fault", "precision"),
    [
        *((fault, precision) for fault in FAULTS_OF_A_FILE for precision in ("fp32", "int8")),
        *((fault, "int8") for fault in FAULTS_OF_INT8),
    ],
)
def test_a_fault_of_a_file_has_its_own_name_in_every_precision(bundle: Bundle, fault: str, precision: str) -> None:
    plant, name = {**FAULTS_OF_A_FILE, **FAULTS_OF_INT8}[fault]
    report = checked(faults.planted(bundle, plant, precision), precision)
    assert report.verdict == "fail"
    assert names_in(report) == {name}


def test_a_damaged_layer_is_told_by_the_sibling_files(bundle: Bundle) -> None:
    """The float file is damaged in a way that no look at the weight alone shows."""

    def draw_again(values: NDArray[np.float32]) -> None:
        values[...] = np.random.default_rng(0).normal(0, values.std(), values.shape)

    report = checked(faults.planted(bundle, lambda model: faults.replace_weight(model, WEIGHT, draw_again)))
    assert report.verdict == "fail"
    assert names_in(report) == {"damaged_weight"}
    assert WEIGHT in report.findings.diagnosis[0].detail
    assert "differs from that of model.fp16.onnx" in report.findings.diagnosis[0].detail


def test_a_file_of_another_expert_is_not_blamed_on_quantisation(bundle: Bundle) -> None:
    def draw_all_again(model: onnx.ModelProto) -> None:
        random = np.random.default_rng(0)
        faults.change_tensors("_quantized", lambda values: random.permutation(values.ravel()).reshape(values.shape))(
            model
        )

    report = checked(faults.planted(bundle, draw_all_again, "int8"), "int8")
    assert report.verdict == "fail"
    assert names_in(report) == {"not_this_model"}


def test_in_an_old_bundle_the_float_file_tells_what_was_planted_into_the_int8_file(bundle: Bundle) -> None:
    """Neither golden outputs nor ranges are recorded."""
    for role in ("golden", "golden.int8", "ranges"):
        bundle = bundle.without_file(role) if bundle.has(role) else bundle
    report = checked(faults.planted(bundle, faults.raise_class(3, 50.0, 10), "int8"), "int8")
    assert report.verdict == "fail"
    assert names_in(report) == {"shifted_logits"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda values: values.__setitem__((0, 0, 0, 0), np.nan),
        lambda values: values.__setitem__((3, 5, 1, 2), 2.0**60),
        lambda values: values.fill(0),
    ],
    ids=["not-a-number", "flipped-exponent", "zeroed"],
)
def test_a_damaged_weight(bundle: Bundle, damage: Callable[[NDArray[np.float32]], None]) -> None:
    report = checked(faults.planted(bundle, lambda model: faults.replace_weight(model, WEIGHT, damage)))
    assert report.verdict == "fail"
    assert "damaged_weight" in names_in(report)
    assert report.findings.diagnosis[0].evidence["weight"] == WEIGHT


def test_int8_calibrated_on_noise(bundle: Bundle, tmp_path: Path) -> None:
    noise = faults.write_noise(tmp_path / "noise.npz", tuple(DIGITS), 10, 64)
    calibrated = calibrate(bundle, open_images(f"npz:{noise}").train, CALIBRATION)
    report = checked(calibrated, "int8")
    assert report.verdict == "fail"
    assert names_in(report) == {"calibrated_on_other_images"}
    assert checked(calibrated, "fp32").verdict == "pass"


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_equal_rows_that_get_other_answers(bundle: Bundle, precision: str) -> None:
    report = checked(faults.planted(bundle, faults.confuse_equal_rows, precision), precision)
    assert report.verdict == "fail"
    assert names_in(report) == {"repeated_rows"}
    broken = next(item for item in report.soundness.metamorphic if not item.passed)
    assert broken.inputs[0].startswith("recorded image 0 (sha256 ")


@pytest.mark.parametrize(
    ("plant", "reason"),
    [
        (faults.use_unknown_operator, "Rectify.*opset|Op registered for Rectify"),
        (faults.claim_future_opset, "pset 999"),
    ],
)
def test_a_node_or_opset_that_the_runtime_refuses(bundle: Bundle, plant: faults.Plant, reason: str) -> None:
    broken = faults.planted(bundle, plant)
    with pytest.raises(EdgeDistillError, match=rf"changed-model\.fp32\.onnx: .*({reason}).*export the model again"):
        checked(broken)


def test_a_swapped_label_file(bundle: Bundle, images: ImageSet) -> None:
    """The manifest's class names in another order than the model's."""
    order = [*DIGITS[:6], "9", "7", "8", "6"]
    subtask = {**bundle.manifest["subtask"], "class_names": order}
    report = checked(bundle.with_fields(subtask=subtask), images=images)
    assert report.verdict == "fail"
    assert names_in(report) == {"class_names", "reference_names", "swapped_labels"}
    assert "The names are the same, in another order" in report.judgement.reasons[0]


def test_swapped_label_folders(bundle: Bundle, images: ImageSet, tmp_path: Path) -> None:
    """Images of 6 under 9 and the other way round: model and teacher agree, the labels are wrong."""
    labels = images.labels.copy()
    labels[images.labels == 6], labels[images.labels == 9] = 9, 6
    pixels = np.stack([np.asarray(images.read(row).convert("L")) for row in range(len(images))])
    path = tmp_path / "swapped.npz"
    np.savez(path, images=pixels, labels=labels, class_names=np.array(list(DIGITS)))
    report = checked(bundle, images=open_images(f"npz:{path}").train)
    assert report.verdict == "fail"
    assert names_in(report) == {"swapped_labels"}
    assert "'6' and '9' are interchanged" in report.findings.diagnosis[0].detail
    assert report.accuracy.drop == 0.0


def test_images_the_teacher_never_saw(bundle: Bundle, digits: ImageSplits) -> None:
    train = digits.train.select(np.arange(100))
    with pytest.raises(DataError, match=r"None of the 100 images is among the .* whose teacher answers"):
        checked(bundle.without_file("teacher.fp32"), images=train)


def test_images_the_teacher_never_saw_are_answered_by_its_file(bundle: Bundle, digits: ImageSplits) -> None:
    train = digits.train.select(np.arange(100))
    report = checked(bundle, "teacher", train)
    assert (report.images.sample_count, report.images.answered_count, report.likeness.agreement) == (100, 100, 1.0)


def test_images_of_which_the_teacher_saw_few(bundle: Bundle, digits: ImageSplits) -> None:
    test = digits.test
    assert test is not None
    report = checked(bundle.without_file("teacher.fp32"), images=test.select(np.arange(700)))
    assert "unknown_images" in names_in(report)
    assert any("were left out" in note for note in report.findings.notes)


def test_a_preprocessing_that_is_not_the_models(bundle: Bundle) -> None:
    other = {**bundle.preprocess.to_json(), "interpolation": "nearest"}
    report = checked(bundle.with_fields(preprocess=other))
    assert report.verdict == "fail"
    assert names_in(report) == {"preprocess_digest", "golden_images"}
