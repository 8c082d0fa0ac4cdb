"""The tables and sentences of a comparison's record."""

import shutil
import sys
from collections.abc import Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_cli.studies.reasons_table import reason_column
from edgedistill_deploy import wording as words

# A terminal narrower than this, in columns, would cut the table's figures.
_WIDTH, _WIDTH_WITH_REASONS = 125, 140


def show_comparison(record: dict[str, Any], console: Console) -> None:
    """Print accuracies, differences and verdicts, a table for each size (two on a narrow terminal), then notes."""
    seeds = len(record["seeds"])
    for size in record["train_sizes"]:
        rows = [row for row in record["rows"] if row["train_size"] == size]
        title = f"{'All' if size is None else size} training images, {seeds} seed{'s' if seeds > 1 else ''}"
        means, differences = _mean_columns(rows, record), _difference_columns(rows, record)
        names = {"method": [row["method"] for row in rows]}
        width = _WIDTH if record["explain"] is None else _WIDTH_WITH_REASONS
        if sys.stdout.isatty() and shutil.get_terminal_size().columns < width:
            _print_columns(console, title, {**names, **means})
            _print_columns(console, f"{title}, differences", {**names, **differences})
        else:
            _print_columns(console, title, {**names, **means, **differences})
        for each in record["worth"]:
            if each["train_size"] == size:
                console.result(each["sentence"])
    for each in record["absent"]:
        console.result(f"{each['method']} is left out: {each['reason']}")
    for method, reason in _reasons(record["rows"]):
        console.result(f"{method}: {reason}")
    for sentence in _at_the_edge(record):
        console.result(sentence)
    console.result(f"teacher: {words.percent(record['teacher_accuracy'])}{_what_is_right(record)}")
    console.result(
        f"diff.: {record['reference']} minus the method, in points, paired by seed; p: two-sided, after Holm's "
        "correction."
    )
    for sentence in record["covers"]:
        console.result(sentence)


def _is_agreement(record: dict[str, Any]) -> bool:
    """Return whether no test image has a label, so that the teacher's answers count as right."""
    return all(task.get("judged_by") == "teacher" for task in record["tasks"])


def _what_is_right(record: dict[str, Any]) -> str:
    return "; no test image has a label, so its answers count as right" if _is_agreement(record) else ""


def _at_the_edge(record: dict[str, Any]) -> list[str]:
    """Return a sentence for the smallest and for the largest weight, if it is the best one of any method."""
    tried = record["lambdas"]
    if len(tried) < 2:
        return []
    found = []
    for weight in (min(tried), max(tried)):
        names = dict.fromkeys(row["method"] for row in record["rows"] if weight in row["lambdas"])
        if names:
            found.append(
                f"lambda {weight:g} is at the edge of those tried ({', '.join(names)}): a better one may lie beyond; "
                "--lambdas takes more."
            )
    return found


def _reasons(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return (methods, reason) for the rows without an interval, a pair for each reason."""
    methods: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["difference"] and row["difference"]["reason"]:
            methods.setdefault(row["difference"]["reason"], {})[row["method"]] = None
    return [(", ".join(named), reason) for reason, named in methods.items()]


def _print_columns(console: Console, title: str, columns: dict[str, list[str]]) -> None:
    console.table(title, list(columns), list(zip(*columns.values(), strict=True)))


def _mean_columns(rows: Sequence[dict[str, Any]], record: dict[str, Any]) -> dict[str, list[str]]:
    measured = "agreement with the teacher, %" if _is_agreement(record) else "test accuracy, %"
    return {
        measured: [_spread(row["mean"], row["deviation"]) for row in rows],
        "lambda": [", ".join(f"{each:g}" for each in row["lambdas"]) or words.MISSING for row in rows],
        "runs": [f"{row['trainings']}" + (f", {row['missing']} missing" if row["missing"] else "") for row in rows],
        "stuck": [str(row["stuck"]) for row in rows],
        **reason_column(rows, record),
    }


def _difference_columns(rows: Sequence[dict[str, Any]], record: dict[str, Any]) -> dict[str, list[str]]:
    reference = record["reference"]
    differences = [row["difference"] or {} for row in rows]
    return {
        "diff.": [_points(each.get("mean")) for each in differences],
        f"{100 * record['confidence']:g} % interval": [_interval(each) for each in differences],
        "p": [
            "" if not each else words.MISSING if each["p_adjusted"] is None else f"{each['p_adjusted']:.3f}"
            for each in differences
        ],
        f"{reference} is": [each.get("verdict", "") for each in differences],
    }


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return words.MISSING
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def _points(difference: float | None) -> str:
    return "" if difference is None else words.signed_points(difference)


def _interval(difference: dict[str, Any]) -> str:
    if not difference:
        return ""
    interval = difference["interval"]
    return words.MISSING if interval is None else f"{_points(interval[0])} to {_points(interval[1])}"
