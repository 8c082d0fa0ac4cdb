"""The figures of a parity record that are more than counts, against slow definitions and other libraries."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from edgedistill_deploy.evaluation.figures import (
    Answers,
    calibration_error,
    mean_divergence,
    measure_classes,
    measure_confidence_calibration,
)
from edgedistill_deploy.statistics.paired import drop_interval, holm

seeds = st.integers(0, 2**32 - 1)


def slow_holm(p_values: list[float], level: float) -> set[int]:
    """Which hypotheses Holm's step-down procedure rejects, by its own words: smallest first, stop at the first
    failure."""
    rejected: set[int] = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda each: p_values[each])):
        if p_values[index] * (len(p_values) - rank) >= level:
            break
        rejected.add(index)
    return rejected


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    adjusted = holm(p_values)
    assert {index for index, p in enumerate(adjusted) if p < level} == slow_holm(p_values, level)
    assert all(raw <= p <= 1 for raw, p in zip(p_values, adjusted, strict=True))


def test_holm_of_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(seeds, st.integers(1, 60), st.integers(2, 5), st.floats(0.2, 2))
@settings(max_examples=40, deadline=None)
def test_the_calibration_error_is_that_of_torchmetrics(seed: int, count: int, classes: int, spread: float) -> None:
    # Here, because it loads half a dozen libraries, which takes every process that collects the tests two seconds.
    from torchmetrics.functional.classification import multiclass_calibration_error

    random = np.random.default_rng(seed)
    logits = (spread * random.standard_normal((count, classes))).astype(np.float32)
    labels = random.integers(0, classes, count)
    probabilities = special.softmax(logits.astype(np.float64), axis=1)
    # torchmetrics rounds confidences to float32 and gives 1.0 a bin of its own: at an edge the two may differ.
    places = probabilities.max(axis=1) * 15
    assume(np.abs(places - np.round(places)).min() > 1e-4)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=classes, n_bins=15, norm="l1"
    )
    assert calibration_error(logits, labels) == pytest.approx(float(expected), abs=1e-6)


def test_the_calibration_error_of_one_confidence_is_its_gap_to_the_accuracy() -> None:
    logits = np.tile(np.log(np.array([0.7, 0.3], dtype=np.float32)), (10, 1))
    labels = np.array([0] * 5 + [1] * 5)
    assert calibration_error(logits, labels) == pytest.approx(0.2, abs=1e-6)


def test_the_calibration_error_needs_labels_and_finite_logits() -> None:
    logits = np.zeros((3, 2), dtype=np.float32)
    broken = np.where(np.eye(3, 2, dtype=bool), np.nan, logits).astype(np.float32)
    answers = Answers(teacher=logits, candidate=broken, labels=np.array([-1, -1, -1]))
    assert calibration_error(broken, np.array([0, 1, 0])) is None
    assert measure_confidence_calibration(answers).teacher is None


def test_unlabelled_images_do_not_count_for_the_calibration_error() -> None:
    logits = np.array([[2, 0], [0, 2], [5, 0]], dtype=np.float32)
    with_unknown = Answers(teacher=logits, candidate=logits, labels=np.array([0, 1, -1]))
    assert measure_confidence_calibration(with_unknown).candidate == calibration_error(logits[:2], np.array([0, 1]))


def test_the_divergence_is_scipys_relative_entropy() -> None:
    random = np.random.default_rng(3)
    teacher, candidate = (random.standard_normal((20, 4)).astype(np.float32) * 3 for _ in range(2))
    p, q = special.softmax(teacher, axis=1), special.softmax(candidate, axis=1)
    assert mean_divergence(teacher, candidate) == pytest.approx(special.rel_entr(p, q).sum(axis=1).mean(), rel=1e-5)
    assert mean_divergence(teacher, teacher) == pytest.approx(0, abs=1e-12)


def answers_of(labels: list[int], teacher: list[int], predicted: list[int], classes: int) -> Answers:
    hot = np.eye(classes, dtype=np.float32)
    return Answers(teacher=hot[teacher], candidate=hot[predicted], labels=np.array(labels))


def test_a_class_that_is_lost_is_flagged_and_the_others_are_not() -> None:
    labels = [0] * 40 + [1] * 40 + [2] * 40
    predicted = [1] * 12 + [0] * 28 + [0] + [1] * 39 + [2] * 40
    found = measure_classes(("a", "b", "c"), answers_of(labels, labels, predicted, 3), 0.95)
    assert [row.significantly_worse for row in found.per_class] == [True, False, False]
    assert found.class_statistics.tested_count == 3
    assert found.class_statistics.interval_confidence == pytest.approx(1 - 0.05 / 3)
    assert found.per_class[0].interval == drop_interval(12, 0, 40, found.class_statistics.interval_confidence)
    raw = [
        stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
        for lost, gained in [(12, 0), (1, 0), (0, 0)]
    ]
    assert [row.mcnemar_p for row in found.per_class] == pytest.approx(raw)
    assert [row.adjusted_p for row in found.per_class] == pytest.approx(holm(raw))


def test_a_class_that_is_gained_is_significant_but_not_worse() -> None:
    labels = [0] * 40
    found = measure_classes(("a", "b"), answers_of(labels, [1] * 20 + [0] * 20, labels, 2), 0.95)
    assert found.per_class[0].adjusted_p < 0.05
    assert not found.per_class[0].significantly_worse


def test_classes_without_images_are_not_tested() -> None:
    found = measure_classes(("a", "b"), answers_of([0] * 9, [0] * 9, [0] * 9, 2), 0.95)
    assert found.class_statistics.tested_count == 1
    assert (found.per_class[1].support, found.per_class[1].drop, found.per_class[1].interval) == (0, None, (-1.0, 1.0))


def test_no_class_of_two_equal_models_is_flagged_more_often_than_the_level_says() -> None:
    random = np.random.default_rng(5)
    labels = np.repeat(np.arange(10), 40)
    flagged = 0
    for _ in range(200):
        right = random.random((2, len(labels))) < 0.8
        teacher, predicted = np.where(right, labels, (labels + 1) % 10)
        found = measure_classes(
            tuple("0123456789"), answers_of(labels.tolist(), teacher.tolist(), predicted.tolist(), 10), 0.95
        )
        flagged += any(row.significantly_worse for row in found.per_class)
    assert flagged <= 0.05 * 200
