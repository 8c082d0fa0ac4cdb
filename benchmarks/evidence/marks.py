"""The table of who learns a mark, from the records of `benchmarks.shortcuts`."""

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]
_FIGURES = ("clean", "others_clean", "wrongly_marked", "taken_for_marked", "on_mark")
_HEAD = ("mark", "on the class", "method", "clean", "others", "others with the mark", "taken for the class", "on it")


def mark_table(records: Sequence[Record]) -> list[str]:
    """Return the lines of a Markdown table: means over the seeds in %, and the teacher beside the students.

    The relevance on the mark is that of marked images of the class. In brackets is the sample standard deviation.
    """
    marks, shares, methods = (list(dict.fromkeys(each[key] for each in records)) for key in ("mark", "share", "method"))
    lines = [_row(_HEAD), _row(["---"] * len(_HEAD))]
    for mark in marks:
        for share, method in itertools.product(sorted(shares), methods):
            rows = [each for each in records if (each["mark"], each["share"], each["method"]) == (mark, share, method)]
            if rows:
                lines.append(_row([mark, f"{share:.0%}", method, *_cells(rows, "student")]))
        lines.append(
            _row([mark, "never", "teacher", *_cells([row for row in records if row["mark"] == mark][:1], "teacher")])
        )
    return lines


def _cells(rows: Sequence[Record], network: str) -> list[str]:
    return [_spread([100 * row[f"{network}_{figure}"] for row in rows]) for figure in _FIGURES]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ({statistics.stdev(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
