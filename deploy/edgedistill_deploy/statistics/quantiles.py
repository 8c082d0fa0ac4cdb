"""Statistics of latency samples: quantiles with intervals, and whether the samples are steady."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
OpenInterval = tuple[float | None, float | None]

QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}


def quantiles(samples: Samples) -> dict[str, float]:
    """Return p50, p90 and p99 by linear interpolation, in the samples' unit."""
    return dict(zip(QUANTILES, np.quantile(samples, list(QUANTILES.values())).tolist(), strict=True))


def quantile_intervals(samples: Samples, confidence: float = 0.95) -> dict[str, OpenInterval]:
    """Return the interval of each of `QUANTILES`; see `quantile_interval`."""
    return {name: quantile_interval(samples, q, confidence) for name, q in QUANTILES.items()}


def quantile_interval(samples: Samples, q: float, confidence: float = 0.95) -> OpenInterval:
    """Return a distribution-free interval for a quantile; its ends are order statistics.

    The number of samples below a quantile q is binomial (n, q). The ranks cut off at most (1 - confidence) / 2 on each
    side. An end is None when there are too few samples for one: the upper end of p99 needs 368 at confidence 0.95. The
    samples are taken as independent. Consecutive runs on a busy machine are not; their intervals are too narrow.
    """
    ordered = np.sort(samples)
    below, above = interval_ranks(len(ordered), q, (1 - confidence) / 2)
    low = float(ordered[below - 1]) if below >= 1 else None
    return low, float(ordered[above - 1]) if above <= len(ordered) else None


def interval_ranks(count: int, q: float, tail: float) -> tuple[int, int]:
    """Return the ranks, from 1 on, of the samples that bound a quantile; 0 and count + 1 where no sample does."""
    cumulative = _binomial_cdf(count, q)
    below = int(np.searchsorted(cumulative, tail, side="right"))  # count with P(X <= below - 1) <= tail
    above = int(np.searchsorted(cumulative, 1 - tail, side="left")) + 1  # smallest with P(X >= above) <= tail
    return below, above


def _binomial_cdf(n: int, q: float) -> Samples:
    """Return P(X <= k) for k = 0..n, from logarithms so that large n neither overflow nor underflow."""
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    k = np.arange(n + 1)
    log_mass = log_factorial[n] - log_factorial[k] - log_factorial[n - k] + k * np.log(q) + (n - k) * np.log1p(-q)
    cumulative: Samples = np.minimum(np.cumsum(np.exp(log_mass)), 1.0)
    return cumulative


def block_variation(samples: Samples, blocks: int = 5) -> float | None:
    """Return the coefficient of variation of the blocks' medians; None with fewer than ten samples a block."""
    if len(samples) < 10 * blocks:
        return None
    medians = np.array([np.median(block) for block in np.array_split(samples, blocks)])
    return float(medians.std(ddof=1) / medians.mean()) if medians.mean() > 0 else None


def drift(samples: Samples) -> float | None:
    """Return the relative change of the median from the first third to the last; None with fewer than 30 samples.

    A change that the scatter of the medians could explain (two standard errors, normal approximation) counts as 0.
    """
    if len(samples) < 30:
        return None
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    start, end = float(np.median(first)), float(np.median(last))
    if start <= 0 or abs(end - start) <= 2 * np.hypot(_median_error(first), _median_error(last)):
        return 0.0
    return end / start - 1


def _median_error(samples: Samples) -> float:
    """Return the standard error of a median, from the ranks that hold it with probability 0.68."""
    half = NormalDist().inv_cdf(0.84) * np.sqrt(len(samples)) / 2
    low, high = np.quantile(samples, [max(0.0, 0.5 - half / len(samples)), min(1.0, 0.5 + half / len(samples))])
    return float(high - low) / 2
