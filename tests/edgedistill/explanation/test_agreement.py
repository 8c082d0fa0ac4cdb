"""The agreement of two maps against scipy, a slow count and cases whose answer is plain."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from edgedistill.explanation.agreement import compare_maps


def draw(seed: int, shape: tuple[int, int] = (9, 11)) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    return np.random.default_rng(seed).normal(size=shape)


def test_a_map_agrees_with_its_multiples_and_disagrees_with_its_negative() -> None:
    one = draw(0)
    assert compare_maps(one, 1e-30 * one) == pytest.approx({"cosine": 1, "spearman": 1, "top_decile": 1})
    assert compare_maps(one, -2 * one) == pytest.approx({"cosine": -1, "spearman": -1, "top_decile": -1})


def test_a_map_without_any_difference_is_like_no_other() -> None:
    assert compare_maps(np.zeros((4, 4)), draw(1, (4, 4))) == {"cosine": 0, "spearman": 0, "top_decile": 0}


def test_the_measures_follow_scipy_and_a_slow_count() -> None:
    one, other = draw(0).round(1), draw(1).round(1)  # with equal values
    other += one
    found = compare_maps(one, other)
    assert found["cosine"] == pytest.approx((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))
    assert found["spearman"] == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    tops = [set(sorted(range(99), key=lambda place: -abs(values.flat[place]))[:10]) for values in (one, other)]
    both = tops[0] & tops[1]
    same = sum(one.flat[place] * other.flat[place] > 0 for place in both)
    assert found["top_decile"] == pytest.approx((2 * same - len(both)) / 10)
    assert 0 < same <= len(both) < 10
