"""How far the methods of a comparison agree with the teacher on what the answers rest on, as tables and sentences."""

from collections.abc import Iterator, Sequence
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words

Record = dict[str, Any]

_MEASURES = {"cosine": "cosine", "spearman": "ranks", "top_decile": "top tenth"}
_HEADLINE = "cosine"


def reason_column(rows: Sequence[Record], record: Record) -> dict[str, list[str]]:
    """Return the column that stands beside the accuracies; none where nothing is explained."""
    return (
        {}
        if record["explain"] is None
        else {"reasons": [_spread((row["reasons"] or {}).get(_HEADLINE)) for row in rows]}
    )


def show_reasons(record: Record, console: Console) -> None:
    """Print the agreement of reasons, a table for each size, then what agreement means nothing, and what is missing."""
    if record["explain"] is None:
        return
    for size in record["train_sizes"]:
        rows = [row for row in record["rows"] if row["train_size"] == size and row["reasons"] is not None]
        columns = _columns(rows, record)
        title = f"Agreement of reasons with the teacher, {'all' if size is None else size} training images"
        console.table(title, list(columns), list(zip(*columns.values(), strict=True)))
    for sentence in _sentences(record):
        console.result(sentence)


def _columns(rows: Sequence[Record], record: Record) -> dict[str, list[str]]:
    found = [row["reasons"] for row in rows]
    differences = [each[_HEADLINE]["difference"] or {} for each in found]
    return {
        "method": [row["method"] for row in rows],
        **{title: [_spread(each[name]) for each in found] for name, title in _MEASURES.items()},
        "diff.": [_signed(each.get("mean")) for each in differences],
        f"{100 * record['confidence']:g} % interval": [_interval(each) for each in differences],
        "p": ["" if not each else words.decimals(each["p_adjusted"], 3) for each in differences],
        f"{record['reference']} is": [each.get("verdict", "") for each in differences],
    }


def _sentences(record: Record) -> Iterator[str]:
    for task in record["tasks"]:
        floors = task["reasons"]
        if floors is None:
            yield f"{task['name']}: nothing is explained yet; the same command with --explain goes on"
            continue
        other = floors["other_class"]
        another = "" if other is None else f", the teacher for another class {words.decimals(other[_HEADLINE], 2)}"
        random = _spread(floors["random_student"][_HEADLINE])
        yield (
            f"{task['name']}: cosine on {floors['images']} validation images by {floors['attribution']}; 1 is full "
            f"agreement, and so much means nothing: students of random weights {random}{another}"
        )
    missing = sum(row["reasons"]["missing"] for row in record["rows"] if row["reasons"] and row["task"] is not None)
    if missing:
        yield f"{words.whole(missing)} students are not explained; the same command with --explain goes on"
    yield (
        f"reasons: agreement of each student's maps with the teacher's, for the class that the teacher sees; diff. is "
        f"{record['reference']} minus the method, in cosine, paired and corrected as for accuracies."
    )


def _spread(found: Record | None) -> str:
    if found is None or found["mean"] is None:
        return words.MISSING
    spread = "" if found["deviation"] is None else f" ± {words.decimals(found['deviation'], 2)}"
    return f"{words.decimals(found['mean'], 2)}{spread}"


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    return f"{'+' if value >= 0 else ''}{words.decimals(value, 2)}"


def _interval(difference: Record) -> str:
    if not difference:
        return ""
    interval = difference["interval"]
    return words.MISSING if interval is None else f"{_signed(interval[0])} to {_signed(interval[1])}"
