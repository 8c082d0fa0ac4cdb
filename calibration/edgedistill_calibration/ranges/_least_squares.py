"""The clipping range whose INT8 values are nearest the float ones, read off a histogram."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Steps from the lowest level of 8 bits to the highest; a symmetric type leaves out its lowest.
ASYMMETRIC_STEPS = 255
SYMMETRIC_STEPS = 254
# The number of ends tried, and the rounds: first over the whole range, then between the neighbours of the best.
TRIED = 65
ROUNDS = 3


def least_squares_range(counts: Counts, low: float, high: float, *, symmetric: bool = False) -> tuple[float, float]:
    """Return the range, not wider than [low, high] with zero, of least squared error when quantised to 8 bits.

    A value outside the range is clipped to its end. A value inside is rounded, with an average error of a twelfth of
    the squared step. Zero is always a level, and a value within half a step of it becomes zero.

    Args:
        counts: values in each of B bins of equal width from `low` to `high`.
        low: the smallest value.
        high: the largest value.
        symmetric: the range reaches as far below zero as above, for types with zero point 0.
    """
    if not counts.any() or not high > low:
        return low, high
    error = _QuantisationError(counts, low, high)
    if symmetric:
        reach = _symmetric_reach(error, max(-low, high))
        return -reach, reach
    return _asymmetric_ends(error, min(low, 0.0), max(high, 0.0))


def _symmetric_reach(error: "_QuantisationError", reach: float) -> float:
    tried = _ends(reach)
    for _ in range(ROUNDS):
        best = int(np.argmin(error(-tried, tried, SYMMETRIC_STEPS)))
        reach, tried = float(tried[best]), _closer(tried, best)
    return reach


def _asymmetric_ends(error: "_QuantisationError", bottom: float, top: float) -> tuple[float, float]:
    bottoms, tops = _ends(bottom), _ends(top)
    for _ in range(ROUNDS):
        errors = error(bottoms[:, None], tops[None, :], ASYMMETRIC_STEPS)
        one, other = (int(place) for place in np.unravel_index(int(np.argmin(errors)), errors.shape))
        bottom, top = float(bottoms[one]), float(tops[other])
        bottoms, tops = _closer(bottoms, one), _closer(tops, other)
    return bottom, top


def _ends(end: float) -> Floats:
    """Return ends to try from near zero to `end`; only zero where the range has no values on that side."""
    return np.linspace(end / TRIED, end, TRIED) if end else np.zeros(1)


def _closer(ends: Floats, best: int) -> Floats:
    """Return as many ends between the neighbours of the best end, and this end too."""
    if len(ends) == 1:
        return ends
    before, after = ends[max(best - 1, 0)], ends[min(best + 1, len(ends) - 1)]
    return np.append(np.linspace(before, after, TRIED - 1), ends[best])


class _QuantisationError:
    """The summed squared error of clipping and rounding, for many ranges at once."""

    def __init__(self, counts: Counts, low: float, high: float) -> None:
        width = (high - low) / len(counts)
        self._centres = low + width * (np.arange(len(counts)) + 0.5)
        moments = counts * np.stack([np.ones(len(counts)), self._centres, self._centres**2])
        # Moments of all values in the bins before each.
        self._sums = np.concatenate([np.zeros((3, 1)), np.cumsum(moments, axis=1)], axis=1)

    def __call__(self, bottoms: Floats, tops: Floats, steps: int) -> Floats:
        step = (tops - bottoms) / steps
        total = self._sums[:, -1].reshape(3, *([1] * step.ndim))
        below, above = self._below(bottoms), total - self._below(tops)
        small = self._below(np.minimum(step / 2, tops)) - self._below(np.maximum(-step / 2, bottoms))
        rounded = np.maximum((total - below - above - small)[0], 0) * step**2 / 12 + small[2]
        error: Floats = rounded + _measure_distance(below, bottoms) + _measure_distance(above, tops)
        return error

    def _below(self, ends: Floats) -> Floats:
        """Return the moments (3, ...) of the values below each end."""
        moments: Floats = self._sums[:, np.searchsorted(self._centres, ends)]
        return moments


def _measure_distance(moments: Floats, end: Floats) -> Floats:
    """Return the summed squared distance to `end` of values with these moments of order 0, 1 and 2."""
    count, total, squares = moments
    distance: Floats = np.maximum(squares - 2 * end * total + count * end**2, 0)
    return distance
