"""JSON from any source, limited to what every later step can handle."""

import json
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 32 << 20  # of a file
MAX_DEPTH = 64  # of nested lists and objects; ours have less than ten
_LARGEST = 1 << 64


def parse_json(content: bytes | str) -> Any:
    """Parse a JSON document.

    Raises ValueError for text that is not UTF-8 or not JSON, for constants that Python adds to JSON, for numbers beyond
    64 bits or the range of a float, for half surrogate pairs, which cannot be written, and for more than `MAX_DEPTH`
    levels.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(f"more than {MAX_DEPTH} levels are nested") from error
    _require_shallow(value)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def read_json(path: Path, most_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file of bounded size. Raises ValueError as `parse_json` does, and OSError."""
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes} bytes")
    return parse_json(content)


def _require_shallow(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(child, (dict, list))
        ]
        if not level:
            return
    raise ValueError(f"more than {MAX_DEPTH} levels are nested")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _whole(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else _LARGEST
    if abs(value) >= _LARGEST:
        raise ValueError(f"{digits[:24]} does not fit 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:24]} is beyond any number")
    return value
