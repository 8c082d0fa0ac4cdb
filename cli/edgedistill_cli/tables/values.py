"""Any JSON record as tables: its values by name, and a table for each list of objects in it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

MOST_ROWS = 200
_MOST_COLUMNS = 8
_MOST_ITEMS = 8
_LONGEST = 100  # characters of a cell


def show_values(record: Mapping[str, Any], console: Console) -> None:
    """Print the values of a record, those of objects inside it by names such as teacher.accuracy."""
    values = list(_values("", record))
    rows = [[name, _cell(value)] for name, value in values[:MOST_ROWS]]
    if len(values) > MOST_ROWS:
        rows.append(["...", f"{len(values) - MOST_ROWS} more"])
    console.table(str(record.get("kind", "")), ["", "value"], rows)
    for name, objects in _lists("", record):
        _show_list(name, objects, console)


def _values(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _values(f"{prefix}{key}.", value)
        elif not _is_table(value):
            yield f"{prefix}{key}", value


def _lists(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _lists(f"{prefix}{key}.", value)
        elif _is_table(value):
            yield f"{prefix}{key}", value


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _show_list(name: str, objects: Sequence[Mapping[str, Any]], console: Console) -> None:
    shown = [dict(_values("", each)) for each in objects[:MOST_ROWS]]
    columns = list(dict.fromkeys(key for row in shown for key in row))[:_MOST_COLUMNS]
    more = f", the first {MOST_ROWS} of {len(objects)}" if len(objects) > MOST_ROWS else ""
    console.table(f"{name}{more}", columns or [""], [[_cell(row.get(key, "")) for key in columns] for row in shown])


def _cell(value: Any) -> str:
    if value is None:
        return words.MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return words.significant(value, 6)
    if isinstance(value, list):
        listed = ", ".join(map(_cell, value[:_MOST_ITEMS]))
        value = f"{listed}, ... ({len(value)} in all)" if len(value) > _MOST_ITEMS else listed
    if isinstance(value, Mapping):
        value = ", ".join(f"{key} {_cell(each)}" for key, each in list(value.items())[:_MOST_ITEMS])
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
