"""The folder of a comparison: one line in `results.jsonl` for every finished job, and the students they trained."""

import json
import os
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.writing import json_line, naming_no_room, require_folder

RESULTS, STUDENTS, CACHES = "results.jsonl", "students", "teacher-caches"
Record = dict[str, Any]


class Results:
    """The record of every job, by its key. Only one process writes; a line that a kill cut short is skipped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / RESULTS
        self._records: dict[str, Record] = {}
        # A job that failed is tried again by the next run.
        self._records.update({each["key"]: each for each in _read_lines(self._path) if "error" not in each})

    def get(self, key: str) -> Record | None:
        """Return the record of a job that was done or tried; None for one that is still due."""
        return self._records.get(key)

    def find_finished(self, key: str) -> Record | None:
        """Return the record of a job that did not fail; else None."""
        record = self._records.get(key)
        return None if record is None or "error" in record else record

    def all(self) -> list[Record]:
        """Return the records of all jobs, including those that failed in this run."""
        return list(self._records.values())

    def failures(self) -> list[Record]:
        """Return the records of jobs that failed in this run."""
        return [record for record in self._records.values() if "error" in record]

    def add(self, record: Record) -> None:
        """Append the record of a finished job; it is on the disk when this returns."""
        require_folder(self.folder)
        line = json_line(record)
        with naming_no_room(self._path, len(line)), self._path.open("ab") as stream:
            whole = stream.tell() == 0 or _ends_a_line(self._path)
            stream.write(("" if whole else "\n").encode() + line.encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._records[record["key"]] = record

    def student_path(self, key: str) -> Path:
        """Return the file of the student that a training made."""
        return self.folder / STUDENTS / f"{key}.safetensors"


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _read_lines(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if not isinstance(record, dict) or not {"key", "kind"} <= record.keys():
            raise DataError(
                f"Line {number} of {path} is not the record of a run; name another folder with --out, or delete the "
                "line."
            )
        records.append(record)
    return records
