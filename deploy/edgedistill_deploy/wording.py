"""Numbers for readers: with a unit, about three digits, and a dash where nothing was measured."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from functools import partial

from edgedistill_deploy.statistics.quantiles import OpenInterval

MISSING = "–"
_LARGEST = 10**18  # a manifest can hold a whole number that is too large for a float


def percent(share: float | None) -> str:
    """Write a share as a percentage with one decimal."""
    return MISSING if share is None else f"{100 * share:.1f} %"


def percent_interval(interval: OpenInterval) -> str:
    """Write both ends of an interval of shares."""
    low, high = interval
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f} %"


def with_interval(share: float | None, interval: OpenInterval) -> str:
    """Write a share as a percentage and its interval."""
    return MISSING if share is None else f"{percent(share)}, interval {percent_interval(interval)}"


def points(difference: float | None) -> str:
    """Write a difference of shares in percentage points."""
    return MISSING if difference is None else f"{bare_points(difference)} points"


def bare_points(difference: float) -> str:
    """Write a difference of shares in percentage points, without the unit."""
    return _minus(f"{100 * difference:.2f}")


def signed_points(difference: float) -> str:
    """Write a gain or a loss in percentage points with its sign, without the unit."""
    return _minus(f"{100 * difference:+.1f}")


def decibel(value: float | None) -> str:
    """Write a ratio of energies in dB; None, for no noise at all, is an exact copy."""
    return "exact" if value is None else f"{_minus(f'{value:.1f}')} dB"


def points_interval(interval: OpenInterval) -> str:
    """Write both ends of an interval of differences in percentage points, without the unit."""
    low, high = interval
    return "" if low is None or high is None else f"{bare_points(low)} to {bare_points(high)}"


def milliseconds(value: float | None) -> str:
    """Write a time given in ms with three significant digits, in the unit that suits it."""
    if value is None:
        return MISSING
    if value < 1:
        return f"{_three_digits(1000 * value)} µs"
    return f"{_three_digits(value)} ms" if value < 1000 else f"{_three_digits(value / 1000)} s"


def seconds(value: float | None) -> str:
    """Write a duration given in s."""
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: float | None) -> str:
    """Write a number of bytes in decimal units."""
    return MISSING if count is None else _scale(count, ("B", "kB", "MB", "GB", "TB"))


def quantity(count: float | None) -> str:
    """Write a large count with a suffix: k, M, G, T."""
    return MISSING if count is None else _scale(count, ("", "k", "M", "G", "T")).rstrip()


def whole(count: int | None) -> str:
    """Write a count in full, with commas between the thousands."""
    return MISSING if count is None else f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Write a count and its noun, which takes an s unless the count is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def signed_whole(count: int) -> str:
    """Write a difference of counts with its sign."""
    return _minus(f"{count:+,}")


def significant(value: float | None, digits: int = 3) -> str:
    """Write a number with this many significant digits."""
    return MISSING if value is None else _minus(f"{value:.{digits}g}")


def decimals(value: float | None, count: int) -> str:
    """Write a number with this many decimals."""
    return MISSING if value is None else _minus(f"{value:.{count}f}")


def ratio(value: float | None, baseline: float | None, less: str, more: str) -> str:
    """Write how many times less or more than the baseline a quantity is; "" where either is unknown or zero."""
    if not value or not baseline:
        return ""
    factor = baseline / value
    return f"{_factor(factor)}× {less}" if factor >= 1 else f"{_factor(1 / factor)}× {more}"


def less_probable(before: float, after: float, fall: float) -> str:
    """Return how a probability falls; by its odds where both look the same. `fall` is that of the log odds."""
    if percent(before) != percent(after):
        return f"{percent(before)} falls to {percent(after)}"
    return f"the odds fall by a factor of {significant(math.exp(min(fall, 700.0)))}"


def join_words(items: Sequence[str]) -> str:
    """Join items with commas and a final "and"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def screen(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Write a title and below it each row that has a text, name first, folded to the width of a screen."""
    fold = partial(textwrap.fill, width=100, subsequent_indent=" " * 12)
    return "\n".join([title, *(fold(text, initial_indent=f"{name:<12}") for name, text in rows if text)])


def _factor(value: float) -> str:
    return f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"


def _scale(value: float, units: Sequence[str]) -> str:
    value, index = min(value, _LARGEST), 0
    while value >= 999.5 and index < len(units) - 1:
        value, index = value / 1000, index + 1
    return f"{_three_digits(value) if index else f'{value:.0f}'} {units[index]}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
