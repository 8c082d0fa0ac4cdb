"""The detectors one by one: what each recognises, and what it must not be taken in by."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import helper
from scipy.optimize import linear_sum_assignment

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import read_golden, write_golden
from edgedistill_deploy.diagnosis._relabelling import find_relabelling
from edgedistill_deploy.parity.check import ParityReport, check_parity
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.statistics.assignment import best_assignment
from reference import planted_faults as faults
from reference.colour_bundles import colour_bundle
from reference.measured_bundles import bundle_of, image_set
from reference.measured_models import images_of


def checked(bundle: Bundle, images: Any = None, precision: str = "fp32") -> ParityReport:
    with open_session(bundle, precision=precision, threads=1) as session:
        return check_parity(bundle, session, images)


def found_in(bundle: Bundle) -> dict[str, Diagnosis]:
    return {each.name: each for each in checked(bundle).findings.diagnosis}


# --- assignment


@given(
    st.integers(0, 9).flatmap(
        lambda size: arrays.arrays(np.float64, (size, size), elements=st.floats(-1e3, 1e3, width=32))
    )
)
@settings(max_examples=150)
def test_the_assignment_is_as_good_as_scipys(scores: NDArray[np.float64]) -> None:
    columns = best_assignment(scores)
    assert sorted(columns.tolist()) == list(range(len(scores)))
    best = scores[linear_sum_assignment(scores, maximize=True)].sum()
    assert scores[np.arange(len(scores)), columns].sum() == pytest.approx(best, abs=1e-6)


@given(st.integers(1, 12).flatmap(lambda n: arrays.arrays(np.int64, (n, n), elements=st.integers(0, 4))))
@settings(max_examples=100)
def test_the_assignment_of_counts_with_ties_is_exact(counts: NDArray[np.int64]) -> None:
    rows, columns = linear_sum_assignment(counts, maximize=True)
    assert counts[np.arange(len(counts)), best_assignment(counts)].sum() == counts[rows, columns].sum()


# --- permutations


@given(st.permutations(range(7)), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_planted_permutation_is_found_through_the_noise(order: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(7), 30)
    clean = np.where(random.random(len(truth)) < 0.85, truth, random.integers(0, 7, len(truth)))
    found = find_relabelling(truth, np.array(order)[clean], 7)
    if order == sorted(order):
        assert found is None
    else:
        assert found is not None
        assert found.answer_for.tolist() == order
        np.testing.assert_array_equal(found.undo(np.array(order)[clean]), clean)


def test_cycles_are_worded_and_long_ones_cut() -> None:
    names = tuple("abcdefghijklmnopqrst")
    order = np.array([1, 0, 3, 4, 2, 5, *np.roll(np.arange(6, 20), -1)])
    truth = np.repeat(np.arange(20), 3)
    found = find_relabelling(truth, order[truth], 20)
    assert found is not None
    assert found.describe(names) == (
        "'a' and 'b' are interchanged; 3 classes go round, 'c' -> 'd' -> 'e' -> 'c'; "
        "14 classes go round, 'g' -> 'h' -> 'i' -> 'j' -> 'k' -> 'l' -> 'm' -> 'n' -> ..."
    )
    many = np.arange(40) ^ 1
    pairs = find_relabelling(np.arange(40), many, 40)
    assert pairs is not None
    assert pairs.describe(tuple(map(str, range(40)))).endswith("; and 10 more groups")


def test_classes_nobody_answers_stay_where_they_are() -> None:
    assert find_relabelling(np.array([0, 0, 1]), np.array([0, 0, 1]), 5) is None
    assert find_relabelling(np.array([-1, -1]), np.array([1, 0]), 2) is None


def test_answers_that_are_no_class_stay_none() -> None:
    found = find_relabelling(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), 2)
    assert found is not None
    assert found.undo(np.array([-1, 0, 1])).tolist() == [-1, 1, 0]


def test_chance_is_no_permutation() -> None:
    random = np.random.default_rng(0)
    for _ in range(100):
        truth, answers = random.integers(0, 5, (2, 200))
        assert find_relabelling(truth, answers, 5) is None


# --- images and labels


def test_swapped_labels_fail_though_teacher_and_model_agree(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 70
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    swapped = image_set(tmp_path / "s.npz", images_of(answers), [[1, 0, 2][label] for label in answers])
    report = checked(bundle, swapped)
    [found] = report.findings.diagnosis
    assert found.name == "swapped_labels"
    assert "'red' and 'green' are interchanged" in found.detail
    assert "accuracy is 100.0% in place of 33.3%" in found.detail
    assert (report.accuracy.drop, report.verdict) == (0.0, "fail")
    assert found.detail in report.judgement.reasons


def test_teacher_answers_in_another_order_are_no_wrong_label_file(tmp_path: Path) -> None:
    """The labels and the model agree with each other, so that the recorded answers are the ones to put right."""
    labels = [0, 1, 2] * 70
    bundle, _ = bundle_of(tmp_path, labels, [[1, 0, 2][label] for label in labels], labels)
    report = checked(bundle)
    assert report.findings.diagnosis[0].name == "permuted_reference"
    assert "swapped_labels" not in {each.name for each in report.findings.diagnosis}
    assert report.verdict == "fail"


def test_labels_changed_here_and_there_are_told_apart_from_swapped_ones(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 70
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    random = np.random.default_rng(0)
    labels = np.where(random.random(210) < 0.3, random.integers(0, 3, 210), answers)
    report = checked(bundle, image_set(tmp_path / "c.npz", images_of(answers), labels.tolist()))
    [found] = report.findings.diagnosis
    assert found.name == "changed_labels"
    assert found.evidence["share"] == pytest.approx(float(np.mean(labels != answers)))


def test_a_set_of_which_the_teacher_saw_little_is_told(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 10
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    images = np.concatenate([images_of(answers), images_of([0] * 40, seed=9)])
    [found] = checked(bundle, image_set(tmp_path / "o.npz", images, [*answers, *[0] * 40])).findings.diagnosis
    assert (found.name, dict(found.evidence)) == ("unknown_images", {"known": 30, "unknown": 40})


def test_a_few_unknown_images_are_no_fault(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 10
    bundle, _ = bundle_of(tmp_path, answers, answers, answers)
    images = np.concatenate([images_of(answers), images_of([0] * 5, seed=9)])
    assert checked(bundle, image_set(tmp_path / "o.npz", images, [*answers, *[0] * 5])).findings.diagnosis == ()


def test_without_labels_a_permuted_model_is_still_found(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 70
    bundle, _ = bundle_of(tmp_path, answers, answers, [-1] * 210, defect="classes_interchanged")
    assert set(found_in(bundle)) == {"permuted_classes"}


# --- inputs


def test_the_colour_task_is_sound(tmp_path: Path) -> None:
    report = checked(colour_bundle(tmp_path / "b"))
    assert (report.verdict, report.findings.diagnosis) == ("pass", ())
    assert (report.accuracy.teacher or 0) > 0.95


def test_swapped_channels_are_seen_at_the_first_layer(tmp_path: Path) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b"), faults.swap_channels)
    found = found_in(bundle)
    assert set(found) == {"swapped_channels"}
    assert "for red, green and blue it reads blue, green, red" in found["swapped_channels"].detail


def test_swapped_channels_are_found_by_feeding_them_back(tmp_path: Path) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b", says_range=False), faults.swap_channels)
    found = found_in(bundle)
    assert set(found) == {"swapped_channels"}
    evidence = found["swapped_channels"].evidence
    assert evidence["accuracy_repaired"] == evidence["accuracy_teacher"] > evidence["accuracy"]


@pytest.mark.parametrize("says_range", [True, False])
def test_a_gamma_is_no_second_normalisation(tmp_path: Path, says_range: bool) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b", says_range=says_range), faults.bend(2.2))
    assert set(found_in(bundle)) == {"other_gamma"}


RANGES = {
    "double_normalisation": faults.normalise_twice,
    "missing_normalisation": faults.forget_normalisation,
    "pixels_not_scaled": faults.forget_to_scale,
    "pixels_scaled_twice": faults.scale_twice,
    "inverted_pixels": faults.invert,
    "wrong_normalisation": faults.normalise_otherwise,
}


@pytest.mark.parametrize(("name", "plant"), RANGES.items(), ids=list(RANGES))
def test_a_wrong_range_is_seen_at_the_first_layer(
    tmp_path: Path, name: str, plant: Callable[[onnx.ModelProto], None]
) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b"), plant)
    assert name in found_in(bundle)


def test_where_the_graph_tells_nothing_a_second_normalisation_is_undone_in_the_images(tmp_path: Path) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b", says_range=False), faults.normalise_twice)
    found = found_in(bundle)
    assert set(found) == {"double_normalisation"}
    assert found["double_normalisation"].evidence["figures"] == "with the figures of ImageNet"


def test_the_teachers_file_says_what_the_metadata_does_not(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "b", says_range=False)
    teacher = bundle.path / "teacher.fp32.onnx"
    teacher.write_bytes(bundle.file("model.fp32").read_bytes())
    bundle = faults.planted(bundle.with_file("teacher.fp32", teacher), faults.scale_twice)
    assert "pixels_scaled_twice" in found_in(bundle)
    teacher.unlink()
    assert set(found_in(bundle)) == {"constant_answers"}


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"black": [0, 0, 0]}', '{"black": [1], "white": [2]}'])
def test_a_range_that_cannot_be_read_is_no_evidence(tmp_path: Path, text: str) -> None:
    def overwrite(model: onnx.ModelProto) -> None:
        faults.scale_twice(model)
        helper.set_model_props(model, {"edgedistill.pixel_range": text})

    assert set(found_in(faults.planted(colour_bundle(tmp_path / "b"), overwrite))) == {"constant_answers"}


def test_a_first_layer_that_reads_something_else_is_no_evidence(tmp_path: Path) -> None:
    def square(model: onnx.ModelProto) -> None:
        value = faults.normalised_value(model)
        nodes = [helper.make_node("Mul", [f"{value}_before", f"{value}_before"], [value])]
        faults.insert_after(model, value, nodes)

    assert not set(RANGES) & set(found_in(faults.planted(colour_bundle(tmp_path / "b"), square)))


# --- models


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda values: values.__setitem__((0, 0), np.nan), "1 of its 9 values is not finite"),
        (lambda values: values[:2].fill(np.inf), "6 of its 9 values are not finite"),
        (lambda values: values.__setitem__((0, 0), -3e9), r"one value, -3e\+09, is .* times the next largest"),
        (lambda values: values.fill(0), "all its 9 values are zero"),
        (lambda values: values.ravel()[1:].fill(0), "all but one of its 9 values are zero"),
    ],
)
def test_a_damaged_weight_is_named(tmp_path: Path, change: Callable[[NDArray[np.float32]], None], problem: str) -> None:
    bundle = faults.planted(
        colour_bundle(tmp_path / "b"), lambda model: faults.replace_weight(model, "towards", change)
    )
    found = found_in(bundle)["damaged_weight"]
    assert found.evidence["weight"] == "towards"
    assert re.search(problem, found.detail)


def test_a_model_that_ignores_its_image_is_found(tmp_path: Path) -> None:
    answers = [0, 1, 2] * 70
    bundle, _ = bundle_of(tmp_path, [1] * 210, answers, answers, precision="int8")
    report = checked(bundle, precision="int8")
    [found] = report.findings.diagnosis
    assert found.name == "constant_answers"
    assert found.evidence == {"class": "green", "share": 1.0, "teacher_share": pytest.approx(1 / 3)}


def test_a_set_of_one_class_is_no_constant_model(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [1] * 190 + [0] * 10, [1] * 200, [1] * 200)
    report = checked(bundle)
    assert report.verdict == "fail"
    assert report.findings.diagnosis == ()


def test_a_diagnosis_is_plain_json(tmp_path: Path) -> None:
    bundle = faults.planted(colour_bundle(tmp_path / "b"), faults.normalise_twice)
    record = json.loads(json.dumps(checked(bundle).to_json(), allow_nan=False))
    assert record["diagnosis"][0]["name"] == "double_normalisation"
    assert len(record["diagnosis"][0]["evidence"]["trained_on"]["black"]) == 3


def test_a_broken_relation_of_an_accurate_model_is_not_explained_away(tmp_path: Path) -> None:
    report = checked(faults.planted(colour_bundle(tmp_path / "b"), faults.confuse_equal_rows))
    assert report.verdict == "fail"
    assert report.findings.diagnosis == ()


# --- recorded outputs


def test_a_record_of_other_outputs_is_told_from_a_wrong_runtime(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "b")
    path = bundle.file("golden")
    inputs, outputs = read_golden(path)
    write_golden(path, inputs, np.roll(outputs, 1, axis=0))
    report = checked(bundle.with_file("golden", path))
    assert report.verdict == "fail"
    [found] = report.findings.diagnosis
    assert found.name == "stale_outputs"
    assert "answers the evaluation images as well as it should" in found.detail


def test_a_runtime_that_computes_something_else_is_told_from_a_stale_record(tmp_path: Path) -> None:
    """The session runs another function than the file holds: computed node by node, the file gives the record."""
    bundle = colour_bundle(tmp_path / "b")
    sound = bundle.file("model.fp32").read_bytes()
    changed = faults.planted(bundle, lambda model: faults.replace_weight(model, "kernel", _damp))
    with open_session(changed, threads=1) as session:
        session.model_path.write_bytes(sound)
        found = check_parity(bundle, session).findings.diagnosis
    assert [each.name for each in found] == ["other_function"]


def _damp(values: NDArray[np.float32]) -> None:
    values *= np.float32(0.9)


def test_damaged_weights_are_not_called_another_function(tmp_path: Path) -> None:
    bundle = faults.planted(
        colour_bundle(tmp_path / "b"),
        lambda model: faults.replace_weight(model, "towards", lambda values: np.negative(values, out=values)),
    )
    report = checked(bundle)
    assert report.verdict == "fail"
    assert not {"other_function", "stale_outputs"} & {each.name for each in report.findings.diagnosis}
