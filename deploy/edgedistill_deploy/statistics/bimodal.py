"""Do the runs have one usual time or two? A median between two modes is a time that no run takes."""

from dataclasses import dataclass

import numpy as np

from edgedistill_deploy.statistics.quantiles import Samples

_MOST_TESTED = 500
_FEWEST_TESTED = 100
# sqrt(n) times the dip of n uniform samples, the unimodal distribution nearest to having two modes, exceeds this about
# once in 1000 times: in 3000 simulations each, 0.62 was the quantile 0.999 at n = 100, and 0.56 at n = 200.
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
    """Return the two modes of samples in ms that have two; None for one mode, or for fewer than 100 samples.

    Both must hold. Hartigan's dip test (Hartigan and Hartigan 1985) refuses a single mode with about 1 false alarm in
    1000, on at most 500 runs evenly spaced, because neighbouring runs resemble each other. And where the logarithms of
    the times are best cut in two (least variance within), the smaller part holds 10 % of the runs, and the medians of
    the parts lie 10 % apart.
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
    """Spread the samples evenly over the ticks of a clock, whose steps would look like modes; at most 5 % of the
    median."""
    steps = np.diff(np.unique(samples))
    tick = min(float(steps.min()), _WIDEST_TICK * float(np.median(samples)))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, len(samples))
    return np.asarray(samples + tick * noise, dtype=np.float64)


def dip(samples: Samples) -> float:
    """Return the largest distance between the samples' distribution function and the nearest unimodal one.

    A distribution function is unimodal when it is convex up to some point and concave after it. The distance of the
    best convex function up to a sample grows from sample to sample, and that of the best concave one after it falls, so
    that the point where they meet is found by bisection.
    """
    ordered = np.sort(samples)
    low, high = 0, len(ordered) - 1
    while low < high:
        middle = (low + high) // 2
        if _convex_distance(ordered[: middle + 1], len(ordered)) < _concave_distance(ordered, middle):
            low = middle + 1
        else:
            high = middle
    around = [mode for mode in (low - 1, low) if mode >= 0]
    return min(
        max(_convex_distance(ordered[: mode + 1], len(ordered)), _concave_distance(ordered, mode)) for mode in around
    )


def _concave_distance(ordered: Samples, mode: int) -> float:
    """Do as `_convex_distance` for the samples from the mode on; turning the axis round makes concave convex."""
    return _convex_distance(-ordered[mode:][::-1], len(ordered))


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
    """Say whether the point (x, index) in the middle lies on or above the line through the other two."""
    return bool((middle - first) * (x[last] - x[first]) >= (last - first) * (x[middle] - x[first]))
