"""Tango's interval the slow way: test every difference on a grid, each with a likelihood maximised by search.

Nothing is shared with the library: no closed form for the constrained estimate, no bisection for the ends.
"""

import math
from statistics import NormalDist


def _log_likelihood(lost: int, gained: int, size: int, difference: float, gained_rate: float) -> float:
    cells = (
        (lost, gained_rate + difference),
        (gained, gained_rate),
        (size - lost - gained, 1 - 2 * gained_rate - difference),
    )
    total = 0.0
    for count, rate in cells:
        if count and rate <= 0:
            return -math.inf
        total += count * math.log(rate) if count else 0.0
    return total


def constrained_gained_rate(lost: int, gained: int, size: int, difference: float) -> float:
    """Maximise the concave likelihood over the gained rate by ternary search."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    for _ in range(120):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        better_right = _log_likelihood(lost, gained, size, difference, left) < _log_likelihood(
            lost, gained, size, difference, right
        )
        low, high = (left, high) if better_right else (low, right)
    return (low + high) / 2


def score_statistic(lost: int, gained: int, size: int, difference: float) -> float:
    """Return the absolute score statistic at an assumed true difference."""
    gained_rate = constrained_gained_rate(lost, gained, size, difference)
    lost_rate = gained_rate + difference
    variance = size * (lost_rate + gained_rate - difference**2)
    distance = abs(lost - gained - size * difference)
    if distance < 1e-9:
        return 0.0
    return math.inf if variance <= 0 else distance / math.sqrt(variance)


def tango_interval(
    lost: int, gained: int, size: int, confidence: float = 0.95, steps: int = 400
) -> tuple[float, float]:
    """Return the smallest and largest accepted difference on a grid of 2 * steps + 1 points over [-1, 1]."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    grid = [step / steps for step in range(-steps, steps + 1)]
    accepted = [point for point in grid if score_statistic(lost, gained, size, point) <= z]
    return min(accepted), max(accepted)
