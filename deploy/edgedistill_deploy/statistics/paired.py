"""Statistics of two classifiers judged on the same images.

Everywhere: `lost` images are those that only the teacher gets right, `gained` those that only the candidate gets right,
`size` all images compared. The drop in accuracy is (lost - gained) / size; it is positive when the candidate is worse.

Convention: `confidence` belongs to two-sided intervals. A verdict looks at one end of the interval. At confidence 0.95,
a candidate whose true drop equals the limit passes with probability 2.5 %, as is usual in non-inferiority trials.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.statistics.verdicts import Verdict

Interval = tuple[float, float]

_BISECTIONS = 100  # more than the 53 bits of a float need


def drop_interval(lost: float, gained: float, size: float, confidence: float = 0.95) -> Interval:
    """Return the score interval for the difference of two paired proportions, (lost - gained) / size.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908: all differences that the score test does not reject. It
    stays inside [-1, 1] and keeps its width when no image, or every image, is judged differently. Bisection finds the
    ends; it cannot diverge. Without any image the interval is (-1, 1).
    """
    _check_counts(lost, gained, size)
    z = _two_sided_z(confidence)
    if size == 0:
        return -1.0, 1.0
    estimate = (lost - gained) / size
    return _find_end(lost, gained, size, z, estimate, -1.0), _find_end(lost, gained, size, z, estimate, 1.0)


def mcnemar_p(lost: int, gained: int) -> float:
    """Return the two-sided exact p-value of McNemar's test that an image is lost or gained with equal chance."""
    throws = lost + gained
    _check_counts(lost, gained, throws)
    log_half = throws * math.log(2.0)
    tail = math.fsum(math.exp(_log_choose(throws, k) - log_half) for k in range(min(lost, gained) + 1))
    return min(1.0, 2.0 * tail)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the adjusted p-values in the order given.

    Source: Holm's step-down method (Scandinavian Journal of Statistics 6, 1979). Who rejects adjusted values below a
    level makes any false rejection with at most that chance, also when the tests depend on each other.
    """
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def wilson_interval(successes: float, size: float, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval (1927) for one proportion; (0, 1) without any trial."""
    _check_counts(successes, 0, size)
    z = _two_sided_z(confidence)
    if size == 0:
        return 0.0, 1.0
    share = successes / size
    shrink = 1.0 + z * z / size
    centre = (share + z * z / (2 * size)) / shrink
    half_width = z / shrink * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    low = 0.0 if successes == 0 else max(0.0, centre - half_width)
    return low, 1.0 if successes == size else min(1.0, centre + half_width)


def non_inferiority(interval: Interval, max_drop: float) -> Verdict:
    """Judge an interval of the drop against the largest drop allowed.

    "pass": the whole interval lies below the limit. "fail": the whole interval lies above it. "inconclusive": the limit
    lies inside. The module's docstring gives the error rate.
    """
    low, high = interval
    return "pass" if high < max_drop else "fail" if low > max_drop else "inconclusive"


def images_to_decide(lost: float, gained: float, size: float, max_drop: float, confidence: float = 0.95) -> int | None:
    """Return how many images would make the verdict conclusive at the observed rates of lost and gained images.

    The rates will move, so collect more: at this number the chance of a verdict is about a half. None when no number
    is enough: nothing was observed, or the observed drop is exactly the limit.
    """
    _check_counts(lost, gained, size)
    z = _two_sided_z(confidence)
    if size == 0:
        return None
    distance = (lost - gained) / size - max_drop
    if abs(distance) < 1e-12:
        return None
    variance = _variance_of_one(lost / size, gained / size, max_drop)
    return math.floor(z * z * variance / distance**2) + 1


def hold_share(interval: Interval, least: float) -> Verdict:
    """Judge the interval of a share against the least share allowed: its lower end must hold it.

    "pass": no part of the interval lies below. "fail": the whole interval lies below. Else "inconclusive".
    """
    low, high = interval
    return "pass" if low >= least else "fail" if high < least else "inconclusive"


def images_to_bound(successes: int, size: int, least: float, confidence: float = 0.95) -> int | None:
    """Return how many images would take Wilson's interval of the observed share off `least`, to either side.

    None when no number is enough: nothing was observed, or the observed share is exactly `least`.
    """
    _check_counts(successes, 0, size)
    z = _two_sided_z(confidence)
    if size == 0 or abs(successes / size - least) < 1e-12:
        return None
    return math.floor(z * z * least * (1 - least) / (successes / size - least) ** 2) + 1


def images_to_show_loss(lost: int, size: int, test_count: int, confidence: float = 0.95) -> int | None:
    """Return how many images of a class would make a loss without any gain significant, at the observed rate.

    McNemar's exact p-value is then 2^(1 - lost). It counts as one of `test_count` (Bonferroni, never below Holm). None
    when nothing was lost.
    """
    _check_counts(lost, 0, size)
    if lost == 0:
        return None
    needed = math.floor(1 + math.log2(test_count / (1 - confidence))) + 1
    return math.ceil(needed * size / lost)


def _find_end(lost: float, gained: float, size: float, z: float, inside: float, outside: float) -> float:
    """Bisect between a difference `inside` that the score test accepts and one `outside` that it rejects."""
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        excess = ((lost - gained) / size - middle) ** 2
        accepted = excess * size <= z * z * _variance_of_one(lost / size, gained / size, middle)
        inside, outside = (middle, outside) if accepted else (inside, middle)
    return inside


def _variance_of_one(lost_rate: float, gained_rate: float, difference: float) -> float:
    """Return one image's variance of (lost - gained) at the rates most likely under the given true difference.

    Tango's constrained estimate of the gained rate is the larger root of A q^2 + B q + C. The form used depends on the
    sign of B, so that no two nearly equal numbers are subtracted.
    """
    a, b = 2.0, (2.0 - lost_rate + gained_rate) * difference - lost_rate - gained_rate
    c = -gained_rate * difference * (1 - difference)
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    gained_constrained = (root - b) / (2 * a) if b <= 0 else -2 * c / (b + root)
    return max(0.0, 2 * gained_constrained + difference * (1 - difference))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _two_sided_z(confidence: float) -> float:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence is {confidence}; it must lie between 0 and 1, for example 0.95.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _check_counts(lost: float, gained: float, size: float) -> None:
    if min(lost, gained, size) < 0 or lost + gained > size * (1 + 1e-12):
        raise DataError(
            f"Counts of compared images do not fit: {lost} lost and {gained} gained of {size}; "
            "no count may be negative, and lost and gained together may not exceed all images."
        )
