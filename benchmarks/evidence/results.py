"""Write RESULTS.md from the records of the parts: `python -m benchmarks.evidence.results`.

Every table in it is computed here, from `benchmarks/results/PART/comparison.json` and the records of the other
benchmarks.
"""

import functools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.marks import mark_table
from benchmarks.evidence.parts import ABLATIONS, AUTO_SUFFIX, COMPARED, SEEDS_SUFFIX
from benchmarks.real.table import read_cells, real_lines
from benchmarks.records import read_lines
from edgedistill.comparison.statistics import Difference, add_verdicts, compare_pairs

RESULTS = Path(__file__).parents[1] / "results"
PAGE = Path(__file__).parents[1] / "RESULTS.md"
# Ordinary students on images of the subtask alone. Narrower ones, and images with something else in them as well, were
# looked at after these, and share their classes, so they are not pooled with them.
FURTHER = {
    "as they are": COMPARED,
    "as they are, narrower student": ("narrow-500",),
    "with a digit printed on": ("printed-500",),
}
WITH_SEEDS = tuple(dict.fromkeys(part for parts in FURTHER.values() for part in parts))
# What the paper's authors' code reaches on the same data, widths and epochs, with its own teacher of the same recipe.
AUTHORS = {"tops": "77.7 ± 1.5", "footwear": "96.0 ± 0.5"}

CONFIDENCE = 0.95

Record = dict[str, Any]


def read_record(part: str) -> Record | None:
    path = RESULTS / part / "comparison.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def with_more_seeds(record: Record, more: Record | None) -> Record:
    """Return a part's record with the rows of those methods that the other has for more seeds."""
    if more is None:
        return record
    rows = {(row["task"], row["method"]): row for row in more["rows"]}
    return {**record, "rows": [rows.get((row["task"], row["method"]), row) for row in record["rows"]]}


def rows_of(record: Record, task: str | None = None) -> list[Record]:
    """Return the rows of one task; of the only one where there is but one."""
    name = task or record["tasks"][0]["name"]
    return [row for row in record["rows"] if row["task"] == name]


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    mean = percent(statistics.fmean(values), digits)
    return f"{mean} ± {percent(statistics.stdev(values), digits)}" if len(values) > 1 else mean


def interval(difference: Difference | None) -> str:
    if difference is None:
        return ""
    if difference.interval is None:
        return f"{100 * difference.mean:+.1f} ({difference.reason})"
    return f"{100 * difference.mean:+.1f} {ends(difference.interval)}"


def ends(found: tuple[float, float] | None) -> str:
    return "" if found is None else f"[{100 * found[0]:+.1f}, {100 * found[1]:+.1f}]"


def pairs_of(records: Sequence[Record], reference: str, rival: str) -> list[list[float]]:
    """Return the differences reference - rival in test accuracy: a list for each task, of the seeds both have."""
    found = []
    for record in records:
        for task in record["tasks"]:
            runs = {
                row["method"]: {run["seed"]: run["test_accuracy"] for run in row["runs"]}
                for row in rows_of(record, task["name"])
            }
            mine, theirs = runs.get(reference, {}), runs.get(rival, {})
            found.append([mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())])
    return found


def over_all(
    records: Sequence[Record], reference: str = "subdistill", rivals: Sequence[str] = ()
) -> dict[str, Difference | None]:
    """Compare the reference with each rival, or all, over the tasks of several parts, corrected for the rivals'
    number."""
    rivals = rivals or [name for name in records[0]["methods"] if name != reference]
    differences = [compare_pairs(pairs_of(records, reference, rival), CONFIDENCE) for rival in rivals]
    return dict(zip(rivals, add_verdicts(differences, CONFIDENCE), strict=True))


def main_table(records: Sequence[Record]) -> list[str]:
    tasks = [(record, task["name"]) for record in records for task in record["tasks"]]
    head = [
        "method",
        *(name for _, name in tasks),
        "mean",
        "SubDistill ahead by, points [95 %]",
        "on these tasks",
        "other tasks [95 %]",
        "on tasks like these",
        "stuck",
    ]
    lines = table_head(head)
    teacher = [task["teacher_accuracy"] for record in records for task in record["tasks"]]
    lines.append(row_of(["teacher", *map(percent, teacher), percent(statistics.fmean(teacher)), *[""] * 5]))
    differences = over_all(records)
    for method in records[0]["methods"]:
        found = [next(row for row in rows_of(record, name) if row["method"] == method) for record, name in tasks]
        values = [[run["test_accuracy"] for run in row["runs"]] for row in found]
        difference = differences.get(method)
        lines.append(
            row_of(
                [
                    method,
                    *(spread(each) if each else "–" for each in values),
                    percent(statistics.fmean(statistics.fmean(each) for each in values if each)),
                    interval(difference),
                    difference.verdict if difference is not None else "",
                    ends(difference.task_interval) if difference is not None else "",
                    (difference.task_verdict or "") if difference is not None else "",
                    f"{sum(row['stuck'] for row in found)} of {sum(map(len, values))}",
                ]
            )
        )
    return lines


def single_table(record: Record, judge: str = "test_accuracy") -> list[str]:
    """Lay out a part of one or more tasks, with each task's own differences."""
    lines = table_head(
        ["task", "method", "lambda", "each seed", "mean", "reference ahead by, points [95 %]", "reference is", "stuck"]
    )
    verdicts = _verdicts(record, judge)
    for task in record["tasks"]:
        for row in rows_of(record, task["name"]):
            values = [run[judge] for run in row["runs"]]
            difference = compare_pairs([_paired(record, task["name"], row["method"], judge)], CONFIDENCE)
            lines.append(
                row_of(
                    [
                        task["name"],
                        row["method"],
                        ", ".join(_weight(each, record["lambdas"]) for each in row["lambdas"]) or "–",
                        " ".join(map(percent, values)),
                        spread(values) if values else "–",
                        "" if row["method"] == record["reference"] else interval(difference),
                        verdicts.get((task["name"], row["method"]), ""),
                        f"{row['stuck']} of {len(values)}",
                    ]
                )
            )
    return lines


def _verdicts(record: Record, judge: str) -> dict[tuple[str, str], str]:
    """Return the verdict of every task and rival, corrected for the number of rivals of the task."""
    found: dict[tuple[str, str], str] = {}
    for task in record["tasks"]:
        rivals = [
            row["method"]
            for row in rows_of(record, task["name"])
            if row["method"] != record["reference"] and row["runs"]
        ]
        differences = [compare_pairs([_paired(record, task["name"], rival, judge)], CONFIDENCE) for rival in rivals]
        for rival, difference in zip(rivals, add_verdicts(differences, CONFIDENCE), strict=True):
            found[task["name"], rival] = "" if difference is None else difference.verdict
    return found


def _weight(chosen: float, tried: Sequence[float]) -> str:
    """Name a weight; one at the edge of those that were tried is marked, as a better one may lie beyond."""
    return f"{chosen:g}" + ("\\*" if len(tried) > 1 and chosen in (min(tried), max(tried)) else "")


def _paired(record: Record, task: str, rival: str, judge: str) -> list[float]:
    runs = {row["method"]: {run["seed"]: run[judge] for run in row["runs"]} for row in rows_of(record, task)}
    mine, theirs = runs[record["reference"]], runs[rival]
    return [mine[seed] - theirs[seed] for seed in sorted(mine.keys() & theirs.keys())]


def table_head(cells: Sequence[str]) -> list[str]:
    return [row_of(cells), row_of(["---"] * len(cells))]


def row_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def ablation_table(kinds: Mapping[str, Sequence[Record]]) -> list[str]:
    """Compare the relevant subspace with those of PCA and of random directions, task by task, then by kind of
    images."""
    rivals = ABLATIONS[1:]
    lines = table_head(["images", "task", *(f"ahead of {rival} by, points [95 %]" for rival in rivals)])
    for kind, records in kinds.items():
        names = [(record, task["name"]) for record in records for task in record["tasks"]]
        for record, name in names:
            found = [compare_pairs([_paired(record, name, rival, "test_accuracy")], CONFIDENCE) for rival in rivals]
            lines.append(row_of([kind, name, *map(interval, found)]))
        pooled = over_all(records, rivals=rivals)
        lines.append(
            row_of(
                [
                    kind,
                    f"mean of {len(names)}",
                    *(f"{interval(each)}, {each.verdict}" for each in pooled.values() if each),
                ]
            )
        )
    return lines


def auto_table(records: Sequence[Record]) -> list[str]:
    """Compare the subspace chosen by validation with the two that it is chosen from."""
    lines = table_head(["against", "tasks", "pairs", "auto ahead by, points [95 %]", "won", "lost", "verdict"])
    tasks = sum(len(record["tasks"]) for record in records)
    for rival, found in over_all(records, "subdistill, auto").items():
        if found is not None:
            cells = (tasks, found.pairs, interval(found), found.wins, found.losses, found.verdict)
            lines.append(row_of([rival, *map(str, cells)]))
    return lines


def gains(records: Sequence[Record]) -> list[str]:
    """Say in a few lines what was gained and where not."""
    differences = over_all(records)
    groups: dict[str, list[str]] = {"ahead": [], "not distinguishable": [], "behind": []}
    for rival, difference in differences.items():
        if difference is not None:
            groups[difference.verdict].append(f"{rival} {interval(difference)}")
    tasks = sum(len(record["tasks"]) for record in records)
    counts = [
        len(row["runs"]) for record in records for task in record["tasks"] for row in rows_of(record, task["name"])
    ]
    fewest, most = min(counts), max(counts)
    seeds = f"{fewest} to {most}" if fewest < most else str(most)
    lines = [
        (
            f"Test accuracy of a small plain CNN distilled from 500 images, mean over {tasks} tasks with {seeds} seeds "
            "each: points"
        ),
        (
            "by which SubDistill is ahead, 95 % intervals for other seeds on these tasks, verdicts corrected for the "
            "number of rivals."
        ),
        "",
    ]
    words = {"ahead": "Ahead of", "not distinguishable": "Not distinguishable from", "behind": "Behind"}
    lines.extend(f"- **{words[verdict]}**: {'; '.join(names)}." for verdict, names in groups.items() if names)
    elsewhere = [name for name, found in differences.items() if found is not None and found.task_verdict == "ahead"]
    lines.append(
        "- **On other tasks like these** (Student's t over the tasks' means, corrected likewise) ahead of: "
        f"{', '.join(elsewhere) or 'none'}."
    )
    return lines


def authors_lines(record: Record) -> list[str]:
    lines = table_head(["task", "SubDistill here, each seed", "mean", "the authors' code, 3 seeds"])
    for task in record["tasks"]:
        row = next(row for row in rows_of(record, task["name"]) if row["method"] == "subdistill")
        values = [run["test_accuracy"] for run in row["runs"]]
        lines.append(row_of([task["name"], " ".join(map(percent, values)), spread(values), AUTHORS[task["name"]]]))
    return lines


def reasons_table(record: Record) -> list[str]:
    """Lay out how far each method's students agree with the teacher's reasons, beside their accuracy.

    Cosines of the maps, mean ± deviation over seeds, with what means nothing below; the difference and its verdict are
    over all tasks.
    """
    tasks = [task["name"] for task in record["tasks"]]
    head = ["method", *tasks, "mean", "accuracy", f"{record['reference']} ahead in cosine [95 %]", "verdict"]
    lines = table_head(head)
    for method in record["methods"]:
        rows = {row["task"]: row for row in record["rows"] if row["method"] == method and row["reasons"] is not None}
        if rows:
            whole = rows[None if record["over_tasks"] else tasks[0]]
            cosines = [cosine_of(rows[task]["reasons"]["cosine"]) if task in rows else "–" for task in tasks]
            agreement = whole["reasons"]["cosine"]
            difference = agreement["difference"]
            compared = [_cosine_interval(difference), difference["verdict"]] if difference else ["", ""]
            lines.append(row_of([method, *cosines, cosine_of(agreement), percent(whole["mean"]), *compared]))
    floors = [task["reasons"] or {} for task in record["tasks"]]
    random = [cosine_of((each.get("random_student") or {}).get("cosine")) for each in floors]
    other = [f"{each['other_class']['cosine']:.2f}" if each.get("other_class") else "–" for each in floors]
    lines.append(row_of(["*students of random weights*", *random, "", "", "", ""]))
    lines.append(row_of(["*the teacher for another class*", *other, "", "", "", ""]))
    return lines


def cosine_of(found: Record | None) -> str:
    """Write a mean cosine with its deviation over seeds."""
    if found is None or found["mean"] is None:
        return "–"
    return f"{found['mean']:.2f}" + ("" if found["deviation"] is None else f" ± {found['deviation']:.2f}")


def _cosine_interval(difference: Record) -> str:
    if difference["interval"] is None:
        return f"{difference['mean']:+.2f} ({difference['reason']})"
    low, high = difference["interval"]
    return f"{difference['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def page() -> str:
    known = {path.parent.name: read_record(path.parent.name) for path in RESULTS.glob("*/comparison.json")}
    records = {name: record for name, record in known.items() if record is not None}
    text = (Path(__file__).parent / "RESULTS.in.md").read_text(encoding="utf-8")
    mains = {
        name: with_more_seeds(records[name], records.get(f"{name}{SEEDS_SUFFIX}"))
        for name in WITH_SEEDS
        if name in records
    }
    whole = [mains[name] for name in COMPARED if name in mains]
    kinds = {kind: [mains[name] for name in names if name in mains] for kind, names in FURTHER.items()}
    cells = read_cells(RESULTS / "real")
    fills: dict[str, Callable[[], list[str]]] = {
        "real": lambda: real_lines(cells),
        "gains": lambda: gains(whole),
        "main": lambda: main_table(whole),
        "auto": lambda: auto_table(
            [records[name] for main in WITH_SEEDS if (name := f"{main}{SEEDS_SUFFIX}{AUTO_SUFFIX}") in records]
        ),
        "ablations": lambda: ablation_table(kinds),
        "authors": lambda: authors_lines(records["fashion-2000"]),
        "taps": tap_lines,
        "speed": speed_lines,
        "marks": lambda: mark_table(read_lines(RESULTS / "shortcuts.jsonl")),
        "machines": lambda: [
            " and ".join(sorted({each for record in records.values() for each in record["machines"]}))
        ],
        "settings": functools.partial(setting_lines, "footwear"),
        "pairs": functools.partial(setting_lines, "tops"),
    }
    for name, record in {**records, **mains}.items():
        fills[f"test:{name}"] = functools.partial(single_table, record)
        fills[f"validation:{name}"] = functools.partial(single_table, record, "validation_accuracy")
    for name, record in {**records, **{cell.name: record for cell, record in cells.items()}}.items():
        if record.get("explain") is not None:
            fills[f"reasons:{name}"] = functools.partial(reasons_table, record)
    for name, fill in fills.items():
        mark = f"<!-- {name} -->"
        if mark in text:
            text = text.replace(mark, "\n".join(fill()))
    return text


def tap_lines() -> list[str]:
    """Lay out what `benchmarks.evidence.taps` recorded."""
    rows = read_lines(RESULTS / "taps.jsonl")
    lines = table_head(["student", "each seed", "mean"])
    for tap in dict.fromkeys(row["tap"] for row in rows):
        values = [row["validation_accuracy"] for row in rows if row["tap"] == tap]
        lines.append(row_of([tap, " ".join(map(percent, values)), spread(values)]))
    return lines


def setting_lines(task: str) -> list[str]:
    """Lay out what `benchmarks.evidence.settings` recorded of a task, by student and number of images, the best
    first."""
    rows = read_lines(RESULTS / "settings.jsonl")
    groups: dict[tuple[str, ...], list[Record]] = {}
    for row in rows:
        if row["task"] != task:
            continue
        pairs = {"pairs": row["pairs"]} if row.get("pairs") else {}
        changed = ", ".join(f"{key} {value}" for key, value in {**row["settings"], **pairs}.items())
        named: tuple[str, ...] = (row["task"], str(row["images"]), row["student"], row["method"], changed)
        groups.setdefault(named, []).append(row)
    lines = table_head(["task", "images", "student", "method", "settings", "accuracy, %", "seeds", "stuck"])
    ordered = sorted(groups.items(), key=lambda each: (*each[0][:2], -_mean_accuracy(each[1])))
    for named, found in ordered:
        values = [row["accuracy"] for row in found]
        stuck = sum(row["stuck"] > 0 for row in found)
        lines.append(row_of([*named, spread(values, 2), str(len(values)), str(stuck)]))
    return lines


def _mean_accuracy(rows: Sequence[Record]) -> float:
    return statistics.fmean(row["accuracy"] for row in rows)


def speed_lines() -> list[str]:
    """Lay out what `benchmarks/speed.py` recorded."""
    lines = table_head(["what", "first", "second", "ratio", "machine"])
    for row in read_lines(RESULTS / "speed.jsonl"):
        lines.append(row_of([row["what"], row["first"], row["second"], row["ratio"], row["machine"]]))
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
