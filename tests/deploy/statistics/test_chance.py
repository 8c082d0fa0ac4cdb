"""Better than chance: against shuffled labels, and with the errors that the intervals promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.statistics.chance import compare_with_chance
from edgedistill_deploy.statistics.paired import wilson_interval

RUNS = 1000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
def test_the_chance_level_is_the_accuracy_on_shuffled_labels(pairs: list[tuple[int, int]]) -> None:
    labels, answers = (np.array(column) for column in zip(*pairs, strict=True))
    found = compare_with_chance(labels, answers)
    # Over all orders of the labels, each answer meets each label equally often.
    assert found.chance == pytest.approx(float(np.mean(labels[:, None] == answers[None, :])))
    assert found.accuracy == pytest.approx(float(np.mean(labels == answers)))
    assert found.interval == wilson_interval(int(np.sum(labels == answers)), len(labels))


@pytest.mark.parametrize(
    ("labels", "answers", "standing"),
    [
        ([0, 1] * 5, [0, 1] * 5, "better"),
        ([0, 1] * 50, [0, 0, 1, 1] * 25, "at_chance"),
        ([0] * 950 + [1] * 50, [0] * 1000, "at_chance"),  # one answer for all: 95 % right, and worth nothing
        ([0] * 90 + [1] * 10, [0] * 88 + [1] * 12, "better"),
        ([0] * 28 + [1] * 2, [0] * 27 + [1] * 2 + [0], "undecided"),
        ([0, 1] * 5, [0, 1] * 4 + [1, 0], "undecided"),  # 8 of 10
        ([0] * 100, [0] * 100, "undecided"),  # of one class
        ([0] * 100, [0, 1] * 50, "undecided"),
        ([0, 1, 2] * 20, [-1] * 60, "at_chance"),
        ([0, 1, 2] * 20, [1, 2, 0] * 20, "at_chance"),
    ],
)
def test_standings(labels: list[int], answers: list[int], standing: str) -> None:
    assert compare_with_chance(np.array(labels), np.array(answers)).standing == standing


@pytest.mark.parametrize(("size", "classes"), [(10, 2), (10, 8), (30, 3), (100, 2), (400, 10)])
def test_a_good_teacher_is_hardly_ever_accused_and_a_guesser_hardly_ever_believed(size: int, classes: int) -> None:
    random = np.random.default_rng(0)
    good = guessing = 0
    for _ in range(RUNS):
        labels = random.integers(0, classes, size)
        guesses = random.integers(0, classes, size)
        # Half of the way from chance to perfect, and a little more.
        skilled = np.where(random.random(size) < 0.6, labels, guesses)
        good += compare_with_chance(labels, skilled).standing == "at_chance"
        guessing += compare_with_chance(labels, guesses).standing == "better"
    assert good / RUNS <= 0.025
    assert guessing / RUNS <= 0.05


def test_nothing_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="0 answers cannot be compared with 0 labels"):
        compare_with_chance(np.zeros(0, np.int64), np.zeros(0, np.int64))
