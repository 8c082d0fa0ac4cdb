"""The table of the grid for RESULTS.md, from the records of its cells."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.real.cells import CELLS, METHODS, WITH_LABELS, Cell

Record = dict[str, Any]


def read_cells(results: Path) -> dict[Cell, Record]:
    """Return the records of the cells that were run, in the grid's order."""
    files = {cell: results / cell.name / "comparison.json" for cell in CELLS}
    return {cell: json.loads(path.read_text(encoding="utf-8")) for cell, path in files.items() if path.is_file()}


def real_lines(cells: Mapping[Cell, Record]) -> list[str]:
    """Lay out the grid: a row for each method, a column for each cell; then what it says, and which cells are missing.

    There are no lines where no cell was run.
    """
    if not cells:
        return []
    missing = [cell.name for cell in CELLS if cell not in cells]
    return [
        "## On photographs",
        "",
        *[f"- **{cell.name}**: {_sentence(record)}" for cell, record in cells.items()],
        "",
        "Test accuracy in %, mean ± standard deviation over seeds; in brackets SubDistill's lead in points with its",
        "95 % interval over seeds. Landscapes have no true labels: there it is agreement with the teacher.",
        "",
        _line(["method", *(_head(cell) for cell in cells)]),
        _line(["---"] * (len(cells) + 1)),
        _line(["teacher", *(f"{100 * record['teacher_accuracy']:.1f}" for record in cells.values())]),
        *[
            _line([method, *(_entry(record, method) for record in cells.values())])
            for method in (*METHODS, *WITH_LABELS)
        ],
        "",
        f"Not run: {', '.join(missing)}." if missing else "Every cell of the grid was run.",
        "",
        "## On small images",
        "",
        "",
    ]


def _head(cell: Cell) -> str:
    images = f"{cell.count} images" if cell.count else "all images"
    return f"{cell.subtask}, {cell.pair.replace('-', ' ')}, {images}" + ("" if cell.is_labelled else ", agreement")


def _sentence(record: Record) -> str:
    return " ".join(each["sentence"] for each in record["worth"]) or "no plain way was run beside SubDistill."


def _entry(record: Record, method: str) -> str:
    row = next((each for each in record["rows"] if each["method"] == method), None)
    if row is None or row["mean"] is None:
        return "–"
    spread = "" if row["deviation"] is None else f" ± {100 * row['deviation']:.1f}"
    return f"{100 * row['mean']:.1f}{spread}{_lead(row['difference'])}"


def _lead(difference: Record | None) -> str:
    if difference is None:
        return ""
    interval = difference["interval"]
    span = "" if interval is None else f" [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"
    return f" ({100 * difference['mean']:+.1f}{span})"


def _line(entries: Sequence[str]) -> str:
    return f"| {' | '.join(entries)} |"
