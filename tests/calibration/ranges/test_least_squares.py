"""The least-squares range against a search that quantises every value with every range it tries."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedistill_calibration.ranges._least_squares import least_squares_range

BINS = 8192
SHAPES = ("normal", "rectified", "laplace", "heavy", "shifted", "negative")
Floats = NDArray[np.float64]


def values_of(shape: str, seed: int, count: int = 2000) -> Floats:
    random = np.random.default_rng(seed)
    made = {
        "normal": random.normal(size=count),
        "rectified": np.maximum(random.normal(size=count), 0),
        "laplace": random.laplace(size=count),
        "heavy": random.standard_t(2, size=count),
        "shifted": 3 + random.exponential(size=count),
        "negative": -random.exponential(size=count),
    }
    return made[shape]


def histogram(values: Floats) -> NDArray[np.int64]:
    low, high = values.min(), values.max()
    places = np.clip(((values - low) * (BINS / (high - low))).astype(int), 0, BINS - 1)
    return np.bincount(places, minlength=BINS)


def asymmetric_error(values: Floats, low: float, high: float) -> float:
    """Quantise to uint8 with a zero point as ONNX does, and return the squared error."""
    scale = (high - low) / 255
    zero_point = np.round(-low / scale)
    quantised = np.clip(np.round(values / scale) + zero_point, 0, 255)
    return float(np.sum(((quantised - zero_point) * scale - values) ** 2))


def symmetric_error(values: Floats, reach: float) -> float:
    """Quantise to int8 with zero point 0 and return the squared error."""
    scale = reach / 127
    return float(np.sum((np.clip(np.round(values / scale), -127, 127) * scale - values) ** 2))


def shares(lowest: float) -> Floats:
    return np.linspace(lowest, 1, 30)


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10_000), st.floats(1e-4, 1e4))
@example("heavy", 0, 1.0)
def test_no_asymmetric_range_is_much_better(shape: str, seed: int, scale: float) -> None:
    values = scale * values_of(shape, seed)
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    given = asymmetric_error(values, *least_squares_range(histogram(values), float(values.min()), float(values.max())))
    bottoms = low * shares(0.05) if low else [0.0]
    tops = high * shares(0.05) if high else [0.0]
    best = min(asymmetric_error(values, a, b) for a, b in itertools.product(bottoms, tops))
    assert given <= 1.08 * best


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10_000), st.floats(1e-4, 1e4))
def test_no_symmetric_range_is_much_better(shape: str, seed: int, scale: float) -> None:
    values = scale * values_of(shape, seed)
    counts, low, high = histogram(values), float(values.min()), float(values.max())
    bottom, top = least_squares_range(counts, low, high, symmetric=True)
    assert bottom == -top
    best = min(symmetric_error(values, max(-low, high) * share) for share in shares(0.02))
    assert symmetric_error(values, top) <= 1.08 * best


def test_outliers_are_clipped_where_they_cost_the_rest_its_levels() -> None:
    values = np.append(values_of("normal", 0, 1_000_000), [30.0])
    counts = histogram(values)
    low, high = float(values.min()), float(values.max())
    _, top = least_squares_range(counts, low, high)
    assert top < 15
    assert asymmetric_error(values, low, top) < 0.5 * asymmetric_error(values, low, high)


def test_an_outlier_that_carries_the_energy_is_kept() -> None:
    values = np.append(values_of("normal", 0, 1000), [1000.0, 990.0])
    _, top = least_squares_range(histogram(values), float(values.min()), float(values.max()))
    assert top > 950


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_constant_value_keeps_its_range(symmetric: bool) -> None:
    nothing = np.zeros(BINS, np.int64)
    assert least_squares_range(nothing, 2.5, 2.5, symmetric=symmetric) == (2.5, 2.5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=8, max_size=64), st.floats(-100, 100), st.floats(1e-3, 100))
def test_a_range_never_leaves_what_was_seen_and_zero(counts: list[int], low: float, width: float) -> None:
    high = low + width
    bottom, top = least_squares_range(np.array(counts), low, high)
    assert bottom <= top
    assert min(low, 0.0) <= bottom + 1e-9
    assert top <= max(high, 0.0) + 1e-9
    reach = least_squares_range(np.array(counts), low, high, symmetric=True)[1]
    assert reach <= max(abs(low), abs(high)) + 1e-9
