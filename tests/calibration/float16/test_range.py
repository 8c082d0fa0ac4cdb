"""The extents of values against numpy's own sums in double precision."""

import numpy as np
import pytest

from edgedistill_calibration.float16._range import measure_extents
from edgedistill_calibration.graphs import reading


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
@pytest.mark.parametrize("block", [7, 1 << 16])
def test_extents_are_those_of_all_numbers_in_all_runs(
    scale: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    random = np.random.default_rng(0)
    runs = [np.maximum(random.normal(0, scale, (count, 5, 6)), 0).astype(np.float32) for count in (2, 3)]
    runs[1][0, 0, 0], runs[1][2, 4] = np.inf, np.nan
    found = measure_extents(["value"], [[run] for run in runs])["value"]
    every = np.concatenate([run.ravel() for run in runs]).astype(np.float64)
    finite = every[np.isfinite(every)]
    assert found.largest == finite.max()
    assert found.root_mean_square == pytest.approx(np.sqrt(np.mean(finite[finite > 0] ** 2)), rel=1e-5)
    assert (found.size, found.not_finite) == (90, 7)


def test_a_value_of_zeros_or_of_nothing_has_no_extent() -> None:
    found = measure_extents(["zeros", "nothing"], [[np.zeros((2, 3), np.float32), np.zeros((0, 3), np.float32)]])
    assert (found["zeros"].largest, found["zeros"].root_mean_square, found["zeros"].size) == (0, 0, 6)
    assert (found["nothing"].largest, found["nothing"].root_mean_square, found["nothing"].size) == (0, 0, 0)
