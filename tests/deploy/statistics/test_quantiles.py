import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from edgedistill_deploy.statistics.quantiles import block_variation, drift, quantile_intervals, quantiles


@given(st.lists(st.floats(0.001, 1e4), min_size=1, max_size=300), st.sampled_from([0.8, 0.95]))
@settings(max_examples=80, deadline=None)
def test_interval_ends_are_the_order_statistics_of_the_binomial(values: list[float], confidence: float) -> None:
    samples, ordered = np.array(values), sorted(values)
    tail, n = (1 - confidence) / 2, len(values)
    for name, q in {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}.items():
        low, high = quantile_intervals(samples, confidence)[name]
        ranks = range(1, n + 1)
        lower = [rank for rank in ranks if stats.binom.cdf(rank - 1, n, q) <= tail]
        upper = [rank for rank in ranks if stats.binom.sf(rank - 1, n, q) <= tail]
        assert low == (ordered[max(lower) - 1] if lower else None)
        assert high == (ordered[min(upper) - 1] if upper else None)


def test_the_upper_end_of_p99_needs_368_samples() -> None:
    assert quantile_intervals(np.arange(367.0))["p99_ms"][1] is None
    assert quantile_intervals(np.arange(368.0))["p99_ms"][1] == 367.0


def test_intervals_cover_the_true_quantile_as_often_as_promised() -> None:
    random = np.random.default_rng(0)
    truth = {"p50_ms": np.log(2.0), "p90_ms": np.log(10.0), "p99_ms": np.log(100.0)}
    covered = dict.fromkeys(truth, 0)
    for _ in range(1000):
        intervals = quantile_intervals(random.exponential(size=500))
        for name, value in truth.items():
            low, high = intervals[name]
            covered[name] += low is not None and high is not None and low <= value <= high
    assert min(covered.values()) >= 940


def test_many_samples_neither_overflow_nor_lose_the_interval() -> None:
    low, high = quantile_intervals(np.arange(200_000.0))["p99_ms"]
    assert low is not None
    assert high is not None
    assert low < 198_000 < high
    assert high - low < 300


def test_quantiles_of_a_ramp() -> None:
    assert quantiles(np.arange(101.0)) == {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0}


def test_steady_samples_do_not_drift() -> None:
    random = np.random.default_rng(1)
    moved = [drift(random.gamma(20, 0.1, 300)) for _ in range(50)]
    assert sum(move != 0 for move in moved) <= 8
    assert drift(np.full(90, 3.0)) == 0.0


def test_a_slower_end_is_a_positive_drift() -> None:
    moved = drift(np.concatenate([np.full(50, 1.0), np.full(50, 1.2)]))
    assert moved == pytest.approx(0.2)


def test_drift_and_variation_are_unknown_for_a_few_samples() -> None:
    assert drift(np.ones(29)) is None
    assert block_variation(np.ones(49)) is None


def test_block_variation_is_the_spread_of_block_medians() -> None:
    samples = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 20)
    assert block_variation(samples) == pytest.approx(stats.variation([1, 2, 3, 4, 5], ddof=1))
    assert block_variation(np.zeros(50)) is None
