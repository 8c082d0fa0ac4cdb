"""The recorded answers are checked before a model is judged by them: what is planted there must not pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import read_reference
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity.check import ParityLimits, ParityReport
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.records.parity import Check, NotChecked
from reference.measured_bundles import bundle_of, image_set, one_hot, with_reference, with_teacher
from reference.measured_models import CLASS_NAMES, images_of, logits_of_images, write_model

CLASSES = [int(drawn) for drawn in np.random.default_rng(3).integers(0, 3, 200)]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A sound bundle with the teacher's file, whose reference names the classes."""
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    return with_reference(with_teacher(made), class_names=np.array(CLASS_NAMES), golden_index=np.arange(4))


def report_of(bundle: Bundle, images: ImageSet | None = None, max_drop: float = 0.5) -> ParityReport:
    request = ValidationRequest(precisions=("fp32",), threads=1, limits=ParityLimits(max_drop=max_drop))
    (report,) = validate_bundle(bundle, request, images).reports
    return report


def checks_of(report: ParityReport) -> dict[str, Any]:
    found: list[Check | NotChecked] = [*report.soundness.checks, *report.soundness.not_checked]
    return {each.name: each for each in found}


def test_a_sound_reference_passes_all_of_it(bundle: Bundle) -> None:
    report = report_of(bundle)
    assert report.verdict == "pass", report.judgement.reasons
    checks = checks_of(report)
    assert checks["reference_names"].passed
    assert checks["teacher_reference"].passed
    assert "on 4 golden images and 64 of 200 recorded images" in checks["teacher_reference"].detail
    assert "reference_at_chance" not in checks
    assert report.findings.diagnosis == ()
    assert report.findings.notes == ()


def test_the_answers_of_another_teacher_fail_the_bundle(bundle: Bundle) -> None:
    random = np.random.default_rng(0)
    logits = read_reference(bundle.file("reference")).logits
    other = (logits + random.normal(0, 0.5, logits.shape)).astype(np.float32)
    report = report_of(with_reference(bundle, logits=other))
    assert report.verdict == "fail"
    assert report.judgement.reasons[0].startswith(
        "Check teacher_reference does not hold. teacher.fp32.onnx on 4 golden images and 64 of 200 recorded images: "
    )
    assert "The reference holds answers of another teacher, to other images" in report.judgement.reasons[0]


@pytest.mark.parametrize("defect", ["shifted", "classes_interchanged", "not_finite_when_dark", "two_classes"])
def test_another_teachers_file_fails_the_bundle(bundle: Bundle, defect: str) -> None:
    images = read_reference(bundle.file("reference")).images
    assert images is not None
    bundle = with_reference(bundle, images=images // 4) if defect == "not_finite_when_dark" else bundle
    changed = bundle.with_file("teacher.fp32", write_model(bundle.path / "teacher.fp32.onnx", defect))
    report = report_of(changed)
    assert report.verdict == "fail"
    assert not checks_of(report)["teacher_reference"].passed


def test_a_small_difference_fails_too_where_the_runtime_rounds_as_the_recording_did(bundle: Bundle) -> None:
    logits = read_reference(bundle.file("reference")).logits.copy()
    logits[:, 0] += 0.02 * np.abs(logits).max()
    assert not checks_of(report_of(with_reference(bundle, logits=logits)))["teacher_reference"].passed


def test_one_enormous_answer_does_not_excuse_the_others(bundle: Bundle) -> None:
    logits = np.roll(read_reference(bundle.file("reference")).logits, 1, axis=1)
    logits[:] = np.where(np.arange(len(logits))[:, None] == 7, np.float32(3e38), logits)
    assert not checks_of(report_of(with_reference(bundle, logits=logits)))["teacher_reference"].passed


@pytest.mark.parametrize("step", [1, -1])
def test_images_shifted_by_a_row_are_called_that(bundle: Bundle, step: int) -> None:
    images = read_reference(bundle.file("reference")).images
    assert images is not None
    report = report_of(with_reference(bundle, images=np.roll(images, step, axis=0)))
    assert report.verdict == "fail"
    way = "earlier" if step > 0 else "later"
    assert (
        f"Most are recorded 1 row {way}: images and answers were shifted"
        in checks_of(report)["teacher_reference"].detail
    )
    (found,) = report.findings.diagnosis
    assert found.name == "shifted_rows"
    assert (found.evidence["shifted"], found.evidence["rows"]) == ("images", step)


def test_shifted_images_are_told_without_the_teachers_file(tmp_path: Path) -> None:
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    report = report_of(with_reference(made, images=np.roll(images_of(CLASSES), 2, axis=0)))
    assert [each.name for each in report.findings.diagnosis] == ["shifted_rows"]
    assert "but on 100.0% with the answers 2 rows earlier" in report.findings.diagnosis[0].detail


@pytest.mark.parametrize("defect", ["none", "classes_interchanged"])
def test_a_shift_is_told_from_another_order_where_the_classes_take_turns(tmp_path: Path, defect: str) -> None:
    turns = [0, 1] * 100  # a shift by one row looks like two interchanged classes
    made, _ = bundle_of(tmp_path, turns, turns, turns, defect=defect)
    made = with_reference(made, logits=logits_of_images(images_of(turns)))
    images = images_of(turns)
    report = report_of(with_reference(made, images=np.roll(images, 1, axis=0)) if defect == "none" else made)
    assert report.verdict == "fail"
    wanted = "shifted_rows" if defect == "none" else "permuted_classes"
    assert [each.name for each in report.findings.diagnosis] == [wanted]


def test_labels_shifted_by_a_row_fail_though_teacher_and_model_agree(bundle: Bundle) -> None:
    report = report_of(with_reference(bundle, labels=np.roll(np.array(CLASSES), 1)))
    assert (report.verdict, report.accuracy.drop) == ("fail", 0.0)
    (found,) = report.findings.diagnosis
    assert (found.name, found.evidence["shifted"]) == ("shifted_rows", "labels")


def test_without_the_teachers_file_or_its_images_the_record_says_so(tmp_path: Path, bundle: Bundle) -> None:
    (bundle.path / "teacher.fp32.onnx").unlink()
    assert checks_of(report_of(bundle))["teacher_reference"].detail == (
        "Not checked, because the teacher's file is not in this bundle."
    )
    (tmp_path / "without").mkdir()
    made, images = bundle_of(tmp_path / "without", CLASSES, CLASSES, CLASSES, recorded=[])
    made = made.with_file("teacher.fp32", write_model(made.path / "teacher.fp32.onnx"))
    assert checks_of(report_of(made, images))["teacher_reference"].detail == (
        "Not checked, because the reference does not record the images that the teacher answered."
    )
    known = with_reference(made, golden_index=np.arange(4), logits=logits_of_images(images_of(CLASSES)))
    assert (
        "on 4 golden images gives the recorded answers"
        in checks_of(report_of(known, images))["teacher_reference"].detail
    )


def test_a_teacher_that_the_runtime_cannot_run_is_not_checked_and_a_changed_one_is_refused(bundle: Bundle) -> None:
    path = bundle.path / "teacher.fp32.onnx"
    model = onnx.load(path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, path)
    found = checks_of(report_of(bundle.with_file("teacher.fp32", path)))["teacher_reference"]
    assert found.detail.startswith("Not checked, because the teacher's file cannot be run here. ")
    assert "NoSuchOperator" in found.detail
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=r"teacher\.fp32\.onnx has \d+ bytes, but"):
        report_of(bundle)


def test_golden_images_that_the_reference_does_not_count_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has 4 inputs, but the reference knows 3"):
        report_of(with_reference(bundle, golden_index=np.arange(3)))


# --- names


def test_names_swapped_in_manifest_and_model_together_are_found_through_the_reference(bundle: Bundle) -> None:
    swapped = ["green", "red", "blue"]
    bundle = bundle.with_fields(subtask={**bundle.manifest["subtask"], "class_names": swapped})
    for role in ("model.fp32", "teacher.fp32"):
        path = bundle.path / f"{role}.onnx"
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"edgedistill.class_names": json.dumps(swapped)})
        onnx.save(model, path)
        bundle = bundle.with_file(role, path)
    report = report_of(bundle)
    checks = checks_of(report)
    assert checks["class_names"].passed
    assert report.verdict == "fail"
    assert report.judgement.reasons[0] == (
        "Check reference_names does not hold. The reference says 'red' where the manifest says 'green', 'green' where "
        "the manifest says 'red'. The names are the same, in another order."
    )


def test_a_file_that_is_not_judged_must_name_the_same_classes(bundle: Bundle) -> None:
    path = write_model(bundle.path / "model.int8-tensorrt.onnx")
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"edgedistill.class_names": json.dumps(["green", "red", "blue"])})
    onnx.save(model, path)
    found = checks_of(report_of(bundle.with_file("model.int8-tensorrt", path)))["reference_names"]
    assert not found.passed
    assert found.detail.startswith("model.int8-tensorrt.onnx says 'green' where the manifest says 'red'")


def test_an_older_reference_without_names_is_not_checked(tmp_path: Path) -> None:
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    assert checks_of(report_of(made))["reference_names"].detail == (
        "Not checked, because the reference does not name its classes; export again."
    )


# --- labels


@pytest.mark.parametrize("kind", ["random labels", "random answers", "one answer", "equal logits"])
def test_a_teacher_at_chance_fails_whatever_the_model_does(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(1)
    labels = random.integers(0, 3, 200) if kind == "random labels" else np.array(CLASSES)
    answers = random.integers(0, 3, 200) if kind == "random answers" else np.array(CLASSES)
    answers = np.zeros(200, np.int64) if kind == "one answer" else answers
    made, _ = bundle_of(tmp_path, CLASSES, list(answers), list(labels))
    if kind == "equal logits":
        made = with_reference(made, logits=np.ones((200, 3), np.float32))
    report = report_of(made)
    assert report.verdict == "fail"
    (found,) = [each for each in report.findings.diagnosis if each.name == "reference_at_chance"]
    assert found.detail in report.judgement.reasons
    assert "Are the labels in the order of the teacher's outputs" in found.detail
    assert found.evidence["chance"] == pytest.approx(1 / 3, abs=0.05)


def test_a_more_specific_cause_is_named_alone(tmp_path: Path) -> None:
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, [[1, 2, 0][label] for label in CLASSES])
    assert [each.name for each in report_of(made).findings.diagnosis] == ["swapped_labels"]


@pytest.mark.parametrize(
    ("labels", "right", "reason"),
    [
        ([-1] * 200, 200, "no image has a label"),
        ([0] * 200, 200, "all 200 labelled images are of one class"),
        ([0, 1] * 5, 8, "10 labelled images are too few: the teacher's accuracy is 80.0 %"),
    ],
)
def test_what_the_labels_leave_open_is_not_checked(tmp_path: Path, labels: list[int], right: int, reason: str) -> None:
    teacher = [max(label, 0) if row < right else 1 - label for row, label in enumerate(labels)]
    made, _ = bundle_of(tmp_path, teacher, teacher, labels)
    report = report_of(made)
    assert checks_of(report)["reference_at_chance"].detail.startswith(f"Not checked, because {reason}")
    assert report.findings.diagnosis == ()
    assert report.verdict != "fail"


def test_a_good_teacher_on_ten_images_is_not_accused(tmp_path: Path) -> None:
    report = report_of(bundle_of(tmp_path, CLASSES[:10], CLASSES[:10], CLASSES[:10])[0])
    assert report.findings.diagnosis == ()
    assert "reference_at_chance" not in checks_of(report)


def test_random_labels_in_part_of_the_reference_are_told_with_both_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    labels = np.where(random.random(200) < 0.3, random.integers(0, 3, 200), CLASSES)
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, list(labels))
    report = report_of(with_reference(made, logits=2 * one_hot(CLASSES)))
    wrong = int(np.sum(labels != CLASSES))
    (note,) = report.findings.notes
    assert note.startswith(
        "The teacher is sure of its answer (softmax 0.99 or more) on 200 of 200 labelled images, and "
        f"{wrong} of these have another label, for example recorded image {int(np.argmax(labels != CLASSES))} "
    )
    assert report.verdict == "pass"


@pytest.mark.parametrize("with_file", [False, True])
def test_a_teacher_far_worse_than_its_student_is_doubted_unless_its_file_says_the_same(
    tmp_path: Path, with_file: bool
) -> None:
    labels = np.array([0, 1, 2] * 60)
    teacher = np.where(np.arange(180) % 2, labels, 0)
    made, _ = bundle_of(tmp_path, list(labels), list(teacher), list(labels))
    if with_file:
        # The teacher's file sees darker images than the model, and is checked on the golden ones alone.
        path = write_model(made.path / "teacher.fp32.onnx")
        logits = read_reference(made.file("reference")).logits
        logits[:4] = logits_of_images(images_of(list(labels))[:4])
        made = with_reference(made.with_file("teacher.fp32", path), logits=logits, golden_index=np.arange(4))
    report = report_of(made)
    doubt = "The model is right on 100.0 % of the images and its teacher on 6"
    assert any(note.startswith(doubt) for note in report.findings.notes) == (not with_file)


def test_images_of_ones_own_are_held_against_the_recorded_answers_too(bundle: Bundle, tmp_path: Path) -> None:
    images = image_set(tmp_path / "own.npz", images_of(CLASSES)[:50], CLASSES[:50])
    report = report_of(bundle, images)
    assert report.images.sample_count == 50
    assert checks_of(report)["teacher_reference"].passed
