"""Confusions, reject curves and reliability, against counts that are spelt out image by image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedistill_deploy.evaluation.curves import count_answers, find_confusions, measure_probabilities
from edgedistill_deploy.evaluation.figures import calibration_error

NAMES = ("a", "b", "c")


def logits_and_truth(seed: int, count: int = 60, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, count)
    logits = random.normal(size=(count, classes)) + 1.5 * np.eye(classes)[truth]
    return logits.round(1).astype(np.float32), truth  # rounded, so that some probabilities are equal


def probability(row: NDArray[np.float32]) -> float:
    powers = [float(np.exp(np.float64(value) - np.float64(max(row)))) for value in row]
    return max(powers) / sum(powers)


def test_every_image_is_in_the_cell_of_its_class_and_its_answer() -> None:
    truth, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, -1])
    assert count_answers(predicted, truth, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 1]]


def test_the_most_frequent_confusions_come_first_and_those_of_the_teacher_last() -> None:
    truth = np.repeat([0, 1, 2], 10)
    candidate = np.array([[5, 3, 2], [3, 7, 0], [0, 3, 7]])
    teacher = np.array([[10, 0, 0], [2, 8, 0], [0, 1, 9]])
    pairs = find_confusions(NAMES, truth, teacher, candidate)
    assert [(each.truth, each.answer, each.candidate_count, each.teacher_count) for each in pairs] == [
        ("a", "b", 3, 0), ("c", "b", 3, 1), ("b", "a", 3, 2), ("a", "c", 2, 0),
    ]  # fmt: skip
    assert {each.support for each in pairs} == {10}
    assert find_confusions(NAMES, truth, teacher, candidate, most=1) == pairs[:1]
    assert find_confusions(NAMES, truth, teacher, np.diag([10, 10, 10])) == ()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 70))
def test_a_reject_point_is_what_its_threshold_gives(seed: int, count: int) -> None:
    logits, truth = logits_and_truth(seed, count)
    sure = [probability(row) for row in logits]
    points = measure_probabilities(logits, truth).reject
    assert points[0].answered == 1.0
    for point in points:
        kept = [place for place in range(count) if sure[place] >= point.threshold - 1e-12]
        assert point.answered == pytest.approx(len(kept) / count)
        right = sum(int(np.argmax(logits[place])) == truth[place] for place in kept)
        assert point.accuracy == pytest.approx(right / len(kept))
    assert [each.answered for each in points] == sorted({each.answered for each in points}, reverse=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_reliability_bins_give_the_calibration_error(seed: int) -> None:
    logits, truth = logits_and_truth(seed)
    bins = measure_probabilities(logits, truth).reliability
    assert sum(each.count for each in bins) == len(truth)
    error = sum(each.count * abs(each.accuracy - each.confidence) for each in bins) / len(truth)
    assert error == pytest.approx(calibration_error(logits, truth))
    for each in bins:
        inside = [probability(row) for row in logits if each.low < probability(row) <= each.high + 1e-12]
        assert each.confidence == pytest.approx(sum(inside) / len(inside))


def test_without_images_or_with_logits_that_are_not_finite_nothing_is_drawn() -> None:
    logits, truth = logits_and_truth(0)
    assert measure_probabilities(logits[:0], truth[:0]).reject == ()
    logits[3, 1] = np.nan
    found = measure_probabilities(logits, truth)
    assert (found.reject, found.reliability) == ((), ())
