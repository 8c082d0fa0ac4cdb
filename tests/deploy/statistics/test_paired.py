import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.statistics.paired import (
    drop_interval,
    hold_share,
    images_to_bound,
    images_to_decide,
    mcnemar_p,
    non_inferiority,
    wilson_interval,
)
from reference import tango_grid

confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


@st.composite
def paired_counts(draw: st.DrawFn, largest: int = 4000) -> tuple[int, int, int]:
    size = draw(st.integers(1, largest))
    lost = draw(st.integers(0, size))
    return lost, draw(st.integers(0, size - lost)), size


def test_tango_interval_of_the_airway_example() -> None:
    # Bentur et al. 2009 as analysed by Fagerland, Lydersen and Laake (2014): 1 and 7 discordant of 21 children.
    low, high = drop_interval(1, 7, 21)
    assert (round(low, 3), round(high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(
    ("lost", "gained", "size"),
    [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 20), (20, 0, 20), (0, 20, 20), (10, 10, 20), (7, 2, 40), (3, 0, 100)],
)
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_tango_interval_is_the_set_of_differences_the_score_test_accepts(
    lost: int, gained: int, size: int, confidence: float
) -> None:
    steps = 400
    slow_low, slow_high = tango_grid.tango_interval(lost, gained, size, confidence, steps)
    low, high = drop_interval(lost, gained, size, confidence)
    assert slow_low - 1 / steps - 1e-9 <= low <= slow_low + 1e-9
    assert slow_high - 1e-9 <= high <= slow_high + 1 / steps + 1e-9


@given(paired_counts(400), confidences)
@settings(max_examples=60, deadline=None)
def test_the_score_test_is_at_its_threshold_at_both_ends(counts: tuple[int, int, int], confidence: float) -> None:
    threshold = stats.norm.ppf((1 + confidence) / 2)
    for end in drop_interval(*counts, confidence):
        if abs(end) < 1 - 1e-6:
            assert tango_grid.score_statistic(*counts, end) == pytest.approx(threshold, rel=1e-4)


@pytest.mark.parametrize("size", [1, 20, 189, 3000])
def test_without_discordant_images_the_interval_is_the_closed_form(size: int) -> None:
    z = stats.norm.ppf(0.975)
    expected = z**2 / (size + z**2)
    assert drop_interval(0, 0, size) == pytest.approx((-expected, expected), rel=1e-9)


@given(paired_counts(), confidences)
@settings(max_examples=150, deadline=None)
def test_the_interval_contains_the_estimate_and_stays_within_minus_one_and_one(
    counts: tuple[int, int, int], confidence: float
) -> None:
    lost, gained, size = counts
    low, high = drop_interval(lost, gained, size, confidence)
    assert -1 <= low <= (lost - gained) / size <= high <= 1


@given(paired_counts(), confidences)
@settings(max_examples=150, deadline=None)
def test_swapping_the_two_models_mirrors_the_interval(counts: tuple[int, int, int], confidence: float) -> None:
    lost, gained, size = counts
    low, high = drop_interval(lost, gained, size, confidence)
    assert drop_interval(gained, lost, size, confidence) == pytest.approx((-high, -low), abs=1e-9)


@given(paired_counts(), confidences)
@settings(max_examples=100, deadline=None)
def test_one_more_lost_image_moves_both_ends_up(counts: tuple[int, int, int], confidence: float) -> None:
    lost, gained, size = counts
    low, high = drop_interval(lost, gained, size + 1, confidence)
    more_low, more_high = drop_interval(lost + 1, gained, size + 1, confidence)
    assert more_low >= low - 1e-9
    assert more_high >= high - 1e-9


@given(paired_counts(), st.floats(0.5, 0.97))
@settings(max_examples=100, deadline=None)
def test_more_confidence_widens_the_interval(counts: tuple[int, int, int], confidence: float) -> None:
    low, high = drop_interval(*counts, confidence)
    wider_low, wider_high = drop_interval(*counts, confidence + 0.02)
    assert wider_low <= low + 1e-12
    assert high <= wider_high + 1e-12


def test_nothing_is_known_without_images() -> None:
    assert drop_interval(0, 0, 0) == (-1.0, 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert mcnemar_p(0, 0) == 1.0


@given(st.integers(0, 400), st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_mcnemar_is_the_binomial_test_of_the_discordant_images(lost: int, gained: int) -> None:
    expected = stats.binomtest(lost, lost + gained, 0.5).pvalue if lost + gained else 1.0
    assert mcnemar_p(lost, gained) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_does_not_overflow_on_large_counts() -> None:
    assert mcnemar_p(50_000, 50_600) == pytest.approx(stats.binomtest(50_000, 100_600).pvalue, rel=1e-6)
    assert mcnemar_p(0, 100_000) == 0.0


@given(st.integers(1, 5000), st.data(), confidences)
@settings(max_examples=100, deadline=None)
def test_wilson_is_the_one_of_scipy(size: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, size))
    expected = stats.binomtest(successes, size).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, size, confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((-0.01, 0.019), "pass"),
        ((0.021, 0.05), "fail"),
        ((0.0, 0.03), "inconclusive"),
        ((0.0, 0.02), "inconclusive"),
        ((0.02, 0.03), "inconclusive"),
    ],
)
def test_the_verdict_needs_the_whole_interval_on_one_side(interval: tuple[float, float], verdict: str) -> None:
    assert non_inferiority(interval, 0.02) == verdict


@given(paired_counts(500), st.sampled_from([0.0, 0.005, 0.02, 0.1]), confidences)
@settings(max_examples=150, deadline=None)
def test_images_to_decide_is_the_smallest_size_with_a_verdict(
    counts: tuple[int, int, int], max_drop: float, confidence: float
) -> None:
    lost, gained, size = counts
    needed = images_to_decide(lost, gained, size, max_drop, confidence)
    if needed is None:
        assert math.isclose((lost - gained) / size, max_drop, abs_tol=1e-12)
        return

    def verdict_at(count: float) -> str:
        scale = count / size
        return non_inferiority(drop_interval(lost * scale, gained * scale, count, confidence), max_drop)

    assert verdict_at(needed * (1 + 1e-6) + 1e-6) != "inconclusive"
    if needed > 1:
        assert verdict_at((needed - 1) * (1 - 1e-6)) == "inconclusive"


def test_no_number_of_images_decides_at_the_limit_itself() -> None:
    assert images_to_decide(4, 2, 100, 0.02) is None
    assert images_to_decide(0, 0, 0, 0.02) is None


def test_a_flawless_candidate_needs_189_images_at_the_default_limit() -> None:
    assert images_to_decide(0, 0, 20, 0.02) == 189
    assert non_inferiority(drop_interval(0, 0, 188), 0.02) == "inconclusive"
    assert non_inferiority(drop_interval(0, 0, 189), 0.02) == "pass"


@pytest.mark.parametrize(
    ("agreeing", "size", "least"), [(50, 50, 0.98), (99, 100, 0.98), (997, 1000, 0.98), (90, 100, 0.98), (7, 10, 0.6)]
)
def test_images_to_bound_is_the_smallest_size_whose_wilson_interval_leaves_the_limit(
    agreeing: int, size: int, least: float
) -> None:
    needed = images_to_bound(agreeing, size, least)
    assert needed is not None
    share, wanted = agreeing / size, "pass" if agreeing / size > least else "fail"
    assert hold_share(wilson_interval(share * needed, needed), least) == wanted
    assert hold_share(wilson_interval(share * (needed - 1), needed - 1), least) == "inconclusive"


def test_a_share_at_the_limit_itself_cannot_be_told_from_it() -> None:
    assert images_to_bound(98, 100, 0.98) is None
    assert images_to_bound(0, 0, 0.98) is None


@pytest.mark.parametrize("counts", [(-1, 0, 5), (0, -1, 5), (3, 3, 5), (0, 0, -1)])
def test_impossible_counts_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(DataError, match=r"do not fit: .* lost and .* gained of"):
        drop_interval(*counts)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0, math.nan])
def test_a_confidence_outside_zero_and_one_is_refused(confidence: float) -> None:
    with pytest.raises(UsageError, match=r"confidence is .* must lie between 0 and 1"):
        drop_interval(1, 1, 10, confidence)
