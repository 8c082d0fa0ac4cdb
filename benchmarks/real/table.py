"""The table of the grid for RESULTS.md, from the records of its cells."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.real.cells import CELLS, METHODS, PAIRS, WITH_LABELS, Cell

Record = dict[str, Any]
# What the method claims to be better than: no layers at all, and other directions.
_CLAIMS = ("logits", "subdistill-pca", "subdistill-random")


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
        *[f"- **{_title(cell, record)}**: {_sentence(record)}" for cell, record in cells.items()],
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


def _title(cell: Cell, record: Record) -> str:
    pair = PAIRS[cell.pair]
    task = record["tasks"][0]
    start = "from nothing" if pair.weights == "none" else "with its trained weights"
    student = pair.student.removeprefix("timm:")
    seeds = len(record["seeds"])
    return (
        f"`{student}` {start} under EfficientNet-{pair.teacher.capitalize()}, {_head(cell).split(', ')[0]}, "
        f"{cell.count or 'all'} images of {task['image_size']} pixels, {task['settings']['epochs']} epochs, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}"
    )


def _head(cell: Cell) -> str:
    images = f"{cell.count} images" if cell.count else "all images"
    return f"{cell.subtask}, {cell.pair.replace('-', ' ')}, {images}" + ("" if cell.is_labelled else ", agreement")


def _sentence(record: Record) -> str:
    worth = " ".join(each["sentence"] for each in record["worth"]) or "no plain way was run beside SubDistill."
    found = {row["method"]: row["difference"] for row in record["rows"]}
    leads = [f"{name}{_lead(found[name])}" for name in _CLAIMS if found.get(name)]
    return worth + (f" SubDistill's lead in points on {'; on '.join(leads)}." if leads else "")


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
