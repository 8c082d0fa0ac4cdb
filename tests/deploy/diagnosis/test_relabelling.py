"""Permuted classes are told from the ordinary errors of an expert that is far from perfect."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._relabelling import find_permutation

Classes = NDArray[np.int64]


def answers_of_an_expert(class_count: int, per_class: int, agreement: float, seed: int) -> tuple[Classes, Classes]:
    """Return the teacher's answers and those of an expert; most of its errors are between two classes that look alike,
    and some classes are harder than others."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(class_count), per_class)
    hardness = random.uniform(0.5, 1.5, class_count)
    wrong = random.random(len(truth)) < ((1 - agreement) * hardness / hardness.mean())[truth]
    alike = np.where(random.random(len(truth)) < 0.7, truth ^ 1, random.integers(0, class_count, len(truth)))
    return truth, np.where(wrong, np.minimum(alike, class_count - 1), truth)


EXPERTS = [(20, 40, 0.90), (100, 20, 0.98), (8, 60, 0.70), (8, 60, 0.98)]


@pytest.mark.parametrize(("class_count", "per_class", "agreement"), EXPERTS)
@pytest.mark.parametrize("kind", ["two", "three", "all"])
def test_a_permuted_expert_is_recognised(class_count: int, per_class: int, agreement: float, kind: str) -> None:
    found = 0
    for seed in range(20):
        truth, answers = answers_of_an_expert(class_count, per_class, agreement, seed)
        order = np.arange(class_count)
        moved = {"two": [1, 6], "three": [0, 3, 5], "all": list(range(class_count))}[kind]
        order[moved] = np.roll(moved, 1)
        result = find_permutation(truth, order[answers], class_count, 0.95)
        found += result is not None and result[0].answer_for.tolist() == order.tolist()
    assert found >= 19


@pytest.mark.parametrize(("class_count", "per_class", "agreement"), [*EXPERTS, (100, 5, 0.6), (8, 60, 0.6)])
def test_an_expert_in_order_is_not(class_count: int, per_class: int, agreement: float) -> None:
    for seed in range(20):
        truth, answers = answers_of_an_expert(class_count, per_class, agreement, seed)
        assert find_permutation(truth, answers, class_count, 0.95) is None


def test_two_classes_swapped_by_an_otherwise_broken_model_are_no_permutation() -> None:
    """A last layer of noise answers two classes as each other by accident, and everything else as one class."""
    truth = np.repeat(np.arange(8), 40)
    assert find_permutation(truth, np.array([1, 0, 5, 5, 5, 2, 5, 5])[truth], 8, 0.95) is None
