"""The statistics of a comparison against scipy, full enumeration and figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp, ttest_ind, ttest_rel

from edgedistill.comparison.statistics import (
    AHEAD,
    BEHIND,
    NEITHER,
    Difference,
    add_verdicts,
    compare_pairs,
    coverage,
    holm,
    mean_t,
)


def compared(*tasks: list[float], confidence: float = 0.95) -> Difference:
    difference = compare_pairs(tasks, confidence)
    assert difference is not None
    return difference


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_of_one_task_is_that_of_scipys_paired_test(confidence: float) -> None:
    ours, theirs = [0.91, 0.88, 0.93, 0.90], [0.85, 0.87, 0.86, 0.88]
    expected = ttest_rel(ours, theirs)
    found = compared([a - b for a, b in zip(ours, theirs, strict=True)], confidence=confidence)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(confidence)), rel=1e-9)
    assert (found.task_interval, found.task_p) == (None, None)
    assert (found.pairs, found.wins, found.losses) == (4, 4, 0)
    assert found.mean == pytest.approx(0.04)


def test_two_pairs_by_hand() -> None:
    # Differences 1 and 3: mean 2, standard error 1, and Student's quantile for one degree of freedom is tan(0.45 pi).
    (low, high), p = mean_t([[1.0, 3.0]], 0.9)
    reach = np.tan(np.pi * 0.45)
    assert (low, high) == pytest.approx((2 - reach, 2 + reach))
    assert p == pytest.approx(1 - 2 * np.arctan(2.0) / np.pi)


def test_two_tasks_of_equal_seeds_are_welchs_test_of_one_against_the_negative_of_the_other() -> None:
    first, second = [0.011, 0.052, 0.013, 0.02], [-0.024, 0.031, 0.007]
    expected = ttest_ind(first, [-each for each in second], equal_var=False)
    found = compared(first, second)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    low, high = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((low / 2, high / 2), rel=1e-9)


def test_what_other_tasks_would_do_is_students_t_over_the_tasks_means() -> None:
    tasks = [[0.01, 0.05], [0.02, 0.0, 0.04], [0.1], [0.03, 0.07]]
    expected = ttest_1samp([0.03, 0.02, 0.1, 0.05], 0.0)
    found = compared(*tasks)
    assert found.task_p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.task_interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)


def test_a_task_of_one_seed_has_the_spread_of_the_others() -> None:
    (low, high), _ = mean_t([[1.0, 3.0], [5.0]], 0.95)
    # Variances of the means: 2 / 2 and 2, known with one degree of freedom each: (1 + 2)^2 / (1 + 4).
    reach = student_t.ppf(0.975, 9 / 5) * 3**0.5 / 2
    assert (low, high) == pytest.approx((3.5 - reach, 3.5 + reach))


@pytest.mark.parametrize(("deviation", "shift"), [(0.0, 0.0), (3.0, 0.0), (3.0, 1.5)])
def test_other_seeds_and_other_tasks_are_covered_as_often_as_promised(deviation: float, shift: float) -> None:
    """Tasks differ by `deviation`, seeds by 1; 600 repetitions, so a share of 0.95 is known to 0.02."""
    generator = np.random.default_rng(0)
    of_seeds, of_tasks = [], []
    for _ in range(600):
        truth = shift + deviation * generator.standard_normal(6)
        truth -= truth.mean() - shift if deviation == 0 else 0
        found = compared(*[(each + generator.standard_normal(5)).tolist() for each in truth])
        assert found.interval is not None
        assert found.task_interval is not None
        of_seeds.append(found.interval[0] <= truth.mean() <= found.interval[1])
        of_tasks.append(found.task_interval[0] <= shift <= found.task_interval[1])
    assert np.mean(of_seeds) == pytest.approx(0.95, abs=0.03)
    assert np.mean(of_tasks) == pytest.approx(0.95, abs=0.03)


def test_unequal_numbers_of_seeds_count_a_task_once() -> None:
    found = compared([0.1, 0.1, 0.1, 0.1], [0.2])
    assert found.mean == pytest.approx(0.15)
    assert found.pairs == 5


def test_a_difference_on_these_tasks_need_not_hold_on_others() -> None:
    tasks = [[0.10, 0.11, 0.12], [0.001, 0.002, 0.0], [0.0, 0.001, 0.002]]
    found = add_verdicts([compare_pairs(tasks, 0.95)], 0.95)[0]
    assert found is not None
    assert (found.verdict, found.task_verdict) == (AHEAD, NEITHER)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


@settings(max_examples=50, deadline=None)
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_helps_and_lies_between_none_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p) + 1e-12
    ranked = [each for _, each in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)


def test_verdicts_follow_the_corrected_p_and_the_sign() -> None:
    clear, opposite = compared([0.10, 0.11, 0.12]), compared([-0.10, -0.11, -0.12])
    vague = compared([0.10, -0.11, 0.02])
    verdicts = [each and each.verdict for each in add_verdicts([clear, None, opposite, vague], 0.95)]
    assert verdicts == [AHEAD, None, BEHIND, NEITHER]


def test_a_difference_that_one_rival_makes_clear_may_not_be_among_nine() -> None:
    barely = compared([0.05, 0.03, 0.04])
    assert barely.p is not None
    assert 0.05 / 9 < barely.p < 0.05
    assert barely.interval is not None
    assert barely.interval[0] > 0
    alone = add_verdicts([barely], 0.95)[0]
    among = add_verdicts([barely] * 9, 0.95)[0]
    assert alone is not None
    assert among is not None
    assert (alone.verdict, among.verdict) == (AHEAD, NEITHER)
    assert among.p_adjusted == pytest.approx(9 * barely.p)


@pytest.mark.parametrize(
    ("tasks", "reason"),
    [
        ([[0.3]], "one seed"),
        ([[0.3], [0.1]], "one seed"),
        ([[0.3, 0.3], [0.1, 0.1]], "the same difference for every seed"),
        ([[0.25, 0.25, 0.25]], "the same difference in every run"),
        ([[0.0, 0.0]], "equal in every run"),
    ],
)
def test_without_spread_nothing_is_distinguishable(tasks: list[list[float]], reason: str) -> None:
    found = add_verdicts([compare_pairs(tasks, 0.95)], 0.95)[0]
    assert found is not None
    assert found.verdict == NEITHER
    assert found.interval is None
    assert reason in found.reason


def test_rounding_is_no_difference() -> None:
    found = compared([0.1 + 0.2 - 0.3, 0.3 - 0.1 - 0.2])
    assert (found.wins, found.losses, found.mean) == (0, 0, 0.0)


def test_no_pair_no_difference() -> None:
    assert compare_pairs([[], []], 0.95) is None
    assert add_verdicts([None], 0.95) == [None]


def test_what_is_covered_speaks_of_tasks_only_where_there_are_several() -> None:
    assert not any("all tasks" in sentence for sentence in coverage(False))
    assert any("all tasks" in sentence for sentence in coverage(True))
    assert all(any("test images are not covered" in each for each in coverage(flag)) for flag in (True, False))
