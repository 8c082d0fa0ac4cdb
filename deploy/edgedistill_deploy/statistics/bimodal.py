"""Find out whether runs have one usual time or two. A median between two modes is a time that no run takes."""

from dataclasses import dataclass

import numpy as np

from edgedistill_deploy.statistics.quantiles import Samples

_MOST_TESTED = 500
_FEWEST_TESTED = 100
# sqrt(n) times the dip of n uniform samples exceeds this about once in 1000 times. The uniform distribution is the
# unimodal one nearest to two modes. In 3000 simulations each, quantile 0.999 was 0.62 at n = 100 and 0.56 at n = 200.
_CRITICAL = 0.6
# A smaller second mode belongs to the tail, which p90 and p99 describe; a nearer one makes no difference to a user.
_SMALLEST_SHARE = 0.10
_SMALLEST_STEP = 0.10
_WIDEST_TICK = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """The two usual times of runs, in ms, and the share of the runs about the slower."""

    fast_ms: float
    slow_ms: float
    slow_share: float


def find_modes(samples: Samples) -> Modes | None:
    """Return the two modes of samples in ms; None where they have one mode, or for fewer than 100 samples.

    Two conditions must hold. First, Hartigan's dip test (Hartigan and Hartigan 1985) refuses a single mode, with about
    1 false alarm in 1000. It tests at most 500 evenly spaced runs, because neighbouring runs resemble each other.
    Second, the logarithms of the times are cut in two with the least variance within the parts. The smaller part must
    hold 10 % of the runs, and the medians of the parts must lie 10 % apart.
    """
    if len(samples) < _FEWEST_TESTED or samples.min() <= 0:
        return None
    modes = _split(np.sort(samples))
    apart = modes.slow_ms > (1 + _SMALLEST_STEP) * modes.fast_ms
    if not apart or not _SMALLEST_SHARE <= modes.slow_share <= 1 - _SMALLEST_SHARE:
        return None
    tested = samples[np.linspace(0, len(samples) - 1, min(len(samples), _MOST_TESTED)).astype(int)]
    return modes if dip(_dither(tested)) * len(tested) ** 0.5 > _CRITICAL else None


def _split(ordered: Samples) -> Modes:
    """Cut sorted samples in two where the variance of the logarithms within the parts is least (Otsu)."""
    logs = np.log(ordered)
    counts = np.arange(1, len(logs))
    sums = np.cumsum(logs)[:-1]
    difference = sums / counts - (logs.sum() - sums) / (len(logs) - counts)
    cut = int(np.argmax(counts * (len(logs) - counts) * difference**2)) + 1
    return Modes(
        fast_ms=float(np.median(ordered[:cut])),
        slow_ms=float(np.median(ordered[cut:])),
        slow_share=1 - cut / len(ordered),
    )


def _dither(samples: Samples) -> Samples:
    """Spread the samples by at most 5 % of the median, because the steps of a coarse clock would look like modes."""
    steps = np.diff(np.unique(samples))
    tick = min(float(steps.min()), _WIDEST_TICK * float(np.median(samples)))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(samples))
    return np.asarray(samples + tick * noise, dtype=np.float64)


def dip(samples: Samples) -> float:
    """Return the largest distance between the samples' distribution function and the nearest unimodal one.

    A distribution function is unimodal when it is convex up to some point and concave after it. The distance of the
    best convex function grows from sample to sample, and that of the best concave one falls. Bisection finds where they
    meet.
    """
    ordered = np.sort(samples)
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        convex, concave = _distances(ordered, middle)
        low, high = (middle + 1, high) if convex < concave else (low, middle)
    return min(max(_distances(ordered, mode)) for mode in (low - 1, low) if mode >= 0)


def _distances(ordered: Samples, mode: int) -> tuple[float, float]:
    """Return the distances of a convex function up to the mode and of a concave one from it: convex on -x."""
    return _convex_distance(ordered[: mode + 1], len(ordered)), _convex_distance(-ordered[mode:][::-1], len(ordered))


def _convex_distance(ordered: Samples, total: int) -> float:
    """Return half the largest distance from the steps' upper ends down to the convex hull of their lower ends."""
    hull: list[int] = []
    for index in range(len(ordered)):
        while len(hull) > 1 and _is_above(ordered, hull[-2], hull[-1], index):
            hull.pop()
        hull.append(index)
    below = np.interp(np.arange(len(ordered)), hull, hull) if len(hull) < 2 else np.interp(ordered, ordered[hull], hull)
    return float((np.arange(1, len(ordered) + 1) - below).max()) / (2 * total)


def _is_above(x: Samples, first: int, middle: int, last: int) -> bool:
    """Return whether the middle point (x, index) lies on or above the line through the other two."""
    return bool((middle - first) * (x[last] - x[first]) >= (last - first) * (x[middle] - x[first]))
