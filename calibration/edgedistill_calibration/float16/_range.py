"""Whether float16 holds a value, by the sizes of constants and of values on calibration images."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_calibration.graphs.reading import blocks
from edgedistill_deploy.errors import EdgeDistillError

Floats = NDArray[np.floating]

LARGEST = float(np.finfo(np.float16).max)
SAFE = LARGEST / 4  # images that were not measured may give larger values
# Below it float16 has fewer than 11 bits: steps stay 6e-8 wide until values become zero.
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
# The relative error that a constant may get. Rounding to 11 bits costs 0.03 % at most.
WORST_ERROR = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The measured size of a value's elements."""

    largest: float = 0.0  # magnitude of the finite elements
    root_mean_square: float = 0.0  # of the finite elements that are not zero
    size: int = 0  # elements in one run
    not_finite: int = 0  # elements in all runs that were infinite or no numbers


@dataclass(slots=True)
class _Sums:
    largest: float = 0.0
    squares: float = 0.0
    count: int = 0
    size: int = 0
    not_finite: int = 0

    def take(self, value: Floats) -> None:
        self.size = max(self.size, value.size)
        for block in blocks(value):
            self._add(block)

    def _add(self, value: Floats) -> None:
        largest = max(float(value.max()), -float(value.min()))
        if not math.isfinite(largest):
            finite = value[np.isfinite(value)]
            self.not_finite += value.size - finite.size
            value, largest = finite, float(np.abs(finite).max(initial=0))
        self.largest = max(self.largest, largest)
        if largest > 0:
            self.count += int(np.count_nonzero(value != 0))  # faster than counting floats
            self.squares += _sum_of_squares(value, largest)


def _sum_of_squares(value: Floats, largest: float) -> float:
    """Return the sum; values are scaled where float32 squares could become 0 or infinite."""
    scale = 1.0 if value.dtype == np.float32 and 1e-10 < largest < 1e10 else largest
    scaled = value if scale == 1.0 else (value / scale).astype(np.float32)
    return float(np.vdot(scaled, scaled)) * scale**2


def measure_extents(names: Sequence[str], runs: Iterable[Sequence[Floats]]) -> dict[str, Extent]:
    """Return each value's extent over runs, with one run in memory at a time.

    Raises:
        EdgeDistillError: there are no runs.
    """
    sums = [_Sums() for _ in names]
    ran = False
    for values in runs:
        ran = True
        for each, value in zip(sums, values, strict=True):
            each.take(value)
    if not ran:
        raise EdgeDistillError("There are no images to measure ranges on.")
    return {
        name: Extent(
            largest=each.largest,
            root_mean_square=math.sqrt(each.squares / max(each.count, 1)),
            size=each.size,
            not_finite=each.not_finite,
        )
        for name, each in zip(names, sums, strict=True)
    }


def value_fault(extent: Extent) -> tuple[str, float] | None:
    """Return why a measured value cannot be float16, with its largest magnitude, or None."""
    if extent.largest > SAFE:
        return f"reaches {extent.largest:.3g}, and float16 ends at {LARGEST:.0f}", extent.largest
    if 0 < extent.root_mean_square < SMALLEST_NORMAL:
        average = f"is {extent.root_mean_square:.1g} on average"
        return f"{average}, and float16 loses digits below {SMALLEST_NORMAL:.0e}", extent.largest
    return None


def constant_fault(array: Floats) -> tuple[str, float] | None:
    """Return why a constant cannot be float16, with its largest magnitude, or None."""
    finite = array[np.isfinite(array)].astype(np.float64)
    largest = float(np.abs(finite).max(initial=0.0))
    if largest > LARGEST:
        return f"reaches {largest:.3g}, and float16 ends at {LARGEST:.0f}", largest
    error = float(np.linalg.norm(finite - finite.astype(np.float16)))
    whole = float(np.linalg.norm(finite))
    if error > WORST_ERROR * whole:
        return f"is so small, at most {largest:.1g}, that float16 changes it by {error / whole:.0%}", largest
    return None


def sum_fault(taken: Extent, given: Extent) -> tuple[str, float] | None:
    """Return why the sum of a mean, which a runtime may compute in float16, cannot be float16, with its size."""
    total = given.largest * taken.size / max(given.size, 1)
    return (f"adds up to {total:.3g} before it divides", total) if total > SAFE else None
