"""Values of a record from any source. Each function accepts one kind and raises TypeError or ValueError otherwise."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edgedistill_deploy.errors import quote_value

MAX_TIME = 1e12  # in ms or s: larger than any measurement, small enough for any arithmetic
T = TypeVar("T")


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Accept an object."""
    return _accept(value, dict, "an object")


def as_list(value: Any) -> list[Any]:
    """Accept a list."""
    return _accept(value, list, "a list")


def as_text(value: Any) -> str:
    """Accept a text."""
    return _accept(value, str, "a text")


def as_bool(value: Any) -> bool:
    """Accept true or false."""
    return _accept(value, bool, "true or false")


def as_number(value: Any) -> float:
    """Accept a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{quote_value(value)} stands where a number belongs")
    return float(value)


def as_share(value: Any) -> float:
    """Accept a share, or a difference of two shares."""
    if abs(as_number(value)) > 1:
        raise ValueError(f"{quote_value(value)} stands where a share belongs")
    return float(value)


def as_time(value: Any) -> float:
    """Accept a duration in any unit."""
    if not 0 <= as_number(value) <= MAX_TIME:
        raise ValueError(f"{quote_value(value)} stands where a time belongs")
    return float(value)


def maybe(value: Any, read: Callable[[Any], T]) -> T | None:
    """Accept null as None, and anything else as `read` does."""
    return None if value is None else read(value)


def as_count(value: Any) -> int:
    """Accept a whole number from 0 to 2^63."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"{quote_value(value)} stands where a count belongs")
    return value


def _accept(value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"{quote_value(value)} stands where {what} belongs")
    return value
