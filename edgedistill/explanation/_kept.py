"""The figures of each image, kept on disk batch by batch, so that an interrupted explanation can go on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill_deploy.files.json_text import read_json
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.records.writing import SCHEMA

Row = dict[str, Any]


class KeptRows:
    """Rows in a JSON file that belong to a key; rows of another key, or of a damaged file, count as none."""

    def __init__(self, path: Path, key: str, inside: Path | None) -> None:
        self._path, self._key, self._inside = path, key, inside
        self.rows: list[Row] = _read(path, key)

    def cut_at(self, count: int) -> None:
        """Keep so many rows at most."""
        del self.rows[count:]

    def add(self, rows: Sequence[Row]) -> None:
        """Add rows and write all of them, whole or not at all."""
        self.rows.extend(rows)
        record = {"kind": "explanation-images", "schema": SCHEMA, "key": self._key, "images": self.rows}
        write_json(self._path, record, inside=self._inside)


def _read(path: Path, key: str) -> list[Row]:
    try:
        record = read_json(path)
        rows = record["images"] if record["key"] == key else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return list(rows) if isinstance(rows, list) else []
