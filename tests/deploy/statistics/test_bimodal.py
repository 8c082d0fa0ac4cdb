from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from edgedistill_deploy.statistics.bimodal import dip, find_modes

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def least_distance_with_mode(x: NDArray[np.float64], mode: int) -> float:
    """Distance to the nearest function convex up to a sample and concave from it on, with a step there: a linear
    programme.

    The variables are the distance, then a convex function at the samples up to the mode, then a concave one from it on.
    """
    n, total = len(x), len(x) + 2
    rows, bounds = [], []

    def require(terms: dict[int, float], most: float) -> None:
        row = np.zeros(total)
        for variable, factor in terms.items():
            row[variable] = factor
        rows.append(row)
        bounds.append(most)

    sides = (range(mode + 1), 1), (range(mode, n), 2)
    for samples, offset in sides:
        for i in samples:
            require({i + offset: 1.0, 0: -1.0}, i / n)
            require({i + offset: -1.0, 0: -1.0}, -(i + 1) / n)
        sign = 1.0 if offset == 1 else -1.0
        for i in list(samples)[1:-1]:
            left, right = x[i] - x[i - 1], x[i + 1] - x[i]
            require(
                {
                    i + offset - 1: -sign / left,
                    i + offset: sign * (1 / left + 1 / right),
                    i + offset + 1: -sign / right,
                },
                0.0,
            )
    solved = linprog([1.0] + [0.0] * (total - 1), A_ub=np.array(rows), b_ub=bounds, bounds=(None, None))
    return float(solved.fun)


@given(st.lists(st.integers(0, 60), min_size=3, max_size=9, unique=True))
@settings(max_examples=15, deadline=None)
def test_the_dip_is_the_distance_to_the_nearest_unimodal_function(values: list[int]) -> None:
    x = np.sort(np.array(values, np.float64))
    assert dip(x) == pytest.approx(min(least_distance_with_mode(x, mode) for mode in range(len(x))), abs=1e-7)


def test_the_dip_has_its_known_extremes() -> None:
    assert dip(np.arange(50.0)) == pytest.approx(1 / 100)
    two_heaps = np.concatenate([np.linspace(0, 1e-6, 50), np.linspace(1, 1 + 1e-6, 50)])
    assert dip(two_heaps) == pytest.approx(0.25, abs=0.02)


ONE_MODE: dict[str, Draw] = {
    "normal": lambda random, n: random.normal(1.0, 0.05, n),
    "uniform": lambda random, n: random.uniform(1.0, 2.0, n),
    "lognormal": lambda random, n: random.lognormal(0.0, 0.5, n),
    "exponential tail": lambda random, n: 1.0 + random.exponential(0.3, n),
    "rare stragglers": lambda random, n: random.normal(1.0, 0.02, n) + 4.0 * (random.random(n) < 0.05),
    "coarse clock": lambda random, n: np.round(random.normal(1.0, 0.1, n) * 25) / 25,
    "two near times": lambda random, n: random.normal(1.0, 0.004, n) + 0.05 * (random.random(n) < 0.5),
    "resembling neighbours": lambda random, n: (
        1.0 + 0.1 * np.convolve(random.normal(0, 1, n + 19), 0.8 ** np.arange(20), mode="valid")[:n]
    ),
}


@pytest.mark.parametrize("name", ONE_MODE)
def test_one_usual_time_is_seldom_taken_for_two(name: str) -> None:
    random = np.random.default_rng(11)
    alarms = sum(find_modes(np.abs(ONE_MODE[name](random, 400)) + 1e-3) is not None for _ in range(40))
    assert alarms <= 1


@pytest.mark.parametrize("share", [0.15, 0.5, 0.85])
@pytest.mark.parametrize("slower", [1.3, 3.0])
def test_two_usual_times_are_found(share: float, slower: float) -> None:
    random, found = np.random.default_rng(5), 0
    for _ in range(20):
        slow = random.random(400) < share
        found += find_modes(np.where(slow, slower, 1.0) * random.normal(1.0, 0.03, 400)) is not None
    assert found >= 18


def test_too_few_runs_or_times_of_nothing_have_no_modes() -> None:
    assert find_modes(np.repeat([1.0, 2.0], 49)) is None
    assert find_modes(np.zeros(200)) is None
    assert find_modes(np.ones(200)) is None
