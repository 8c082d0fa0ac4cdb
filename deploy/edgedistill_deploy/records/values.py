"""Values of a record that may come from anywhere: each function accepts one kind and raises TypeError or ValueError
otherwise."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from edgedistill_deploy.errors import quote_value

MAX_TIME = 1e12  # in ms or s: beyond any measurement, within any arithmetic
T = TypeVar("T")


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Accept an object."""
    if not isinstance(value, dict):
        raise TypeError(f"{quote_value(value)} stands where an object belongs")
    return value


def as_list(value: Any) -> list[Any]:
    """Accept a list."""
    if not isinstance(value, list):
        raise TypeError(f"{quote_value(value)} stands where a list belongs")
    return value


def as_text(value: Any) -> str:
    """Accept a text."""
    if not isinstance(value, str):
        raise TypeError(f"{quote_value(value)} stands where a text belongs")
    return value


def as_texts(value: Any) -> tuple[str, ...]:
    """Accept a list of texts, or nothing."""
    return tuple(as_text(item) for item in as_list(value or []))


def as_bool(value: Any) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise TypeError(f"{quote_value(value)} stands where true or false belongs")
    return value


def as_number(value: Any) -> float:
    """Accept a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{quote_value(value)} stands where a number belongs")
    return float(value)


def as_share(value: Any) -> float:
    """Accept a share, or a difference of two."""
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
