"""Files of records, one JSON object a line, which a run adds to and a later one goes on from."""

import json
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read_lines(path: Path) -> list[Record]:
    """Return the records of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def add_line(path: Path, record: Record) -> None:
    """Print a record, and add it to a file."""
    line = json.dumps(record)
    print(line, flush=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


def is_recorded(path: Path, described: Record) -> bool:
    """Tell whether a file has a record with all of these values."""
    return any(described.items() <= each.items() for each in read_lines(path))
