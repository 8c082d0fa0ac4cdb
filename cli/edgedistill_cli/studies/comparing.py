"""From flags to a comparison, and from its record to what a reader wants to see."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError
from edgedistill_cli.settings import RunSettings
from edgedistill_deploy import wording as words
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.progress import Progress

if TYPE_CHECKING:
    from edgedistill.comparison import ComparisonPlan, ComparisonProgress, Task

# A terminal narrower than this, in columns, would cut the table's figures.
_WIDTH = 125
_LIBRARIES = {
    "compare": ("matplotlib", "scipy"),
    "distill": ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx"),
}


def make_plan(
    settings: RunSettings,
    *,
    methods: Sequence[str] | None,
    seeds: int,
    sizes: str | None,
    lambdas: str | None,
    tune_sizes: str,
    tune_seeds: int,
    validation_images: int | None,
) -> "ComparisonPlan":
    """Turn settings and the flags of `compare` into a plan."""
    from edgedistill.comparison import LAMBDAS, METHODS, ComparisonPlan, named_methods

    first = settings.distill.seed
    return ComparisonPlan(
        tasks=(_task(settings),),
        methods=named_methods(methods if methods is not None else list(METHODS)),
        seeds=tuple(range(first, first + seeds)),
        sizes=tuple(_whole_numbers("--train-sizes", sizes)) if sizes is not None else (None,),
        lambdas=tuple(_numbers("--lambdas", lambdas)) if lambdas is not None else LAMBDAS,
        tune_sizes=tune_sizes,
        tune_seeds=tune_seeds,
        validation_images=validation_images,
        confidence=settings.validate.confidence,
    )


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(each) for each in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{flag} takes numbers with commas between them, and {text!r} was given.") from error


def _whole_numbers(flag: str, text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"{flag} takes whole numbers with commas between them, and {text!r} was given."
        ) from error


def _task(settings: RunSettings) -> "Task":
    from edgedistill.comparison import Task
    from edgedistill.subtasks.subtask import named_subtask_classes

    distill = asdict(settings.distill)
    return Task(
        name=settings.subtask.name or "subtask",
        teacher=settings.teacher.name,
        source=settings.data.source,
        classes=settings.subtask.classes or named_subtask_classes(settings.subtask.name),
        student=settings.student.name,
        settings={key: value for key, value in distill.items() if key not in ("seed", "lambda_layer")},
        student_width=settings.student.width,
        teacher_weights=settings.teacher.weights,
        teacher_classes=settings.teacher.classes,
        image_size=settings.data.image_size,
        split_seed=settings.distill.seed,
    )


def check_classes(settings: RunSettings) -> None:
    """Ask the teacher whether it has the classes, before images are looked for under names that it may not have.

    Raises:
        UsageError: it has not; the nearest are named.
    """
    from edgedistill.models.teacher import load_teacher
    from edgedistill.subtasks.subtask import named_subtask_classes

    given = settings.teacher
    teacher = load_teacher(
        given.name,
        weights=Path(given.weights) if given.weights else None,
        classes=Path(given.classes) if given.classes else None,
    )
    teacher.subtask(settings.subtask.classes or named_subtask_classes(settings.subtask.name))


def show_due(plan: "ComparisonPlan", folder: Path, console: Console) -> None:
    """Say how much there is to do, without doing it."""
    from edgedistill.comparison import open_comparison, planned_runs

    total, done = planned_runs(open_comparison(plan, folder))
    console.emit({"kind": "comparison-plan", "schema": 1, "out": str(folder), "runs": total, "done": done})
    console.result(f"{total} runs of {len(plan.methods)} methods, {done} of them done in {folder}")


def run_and_show(plan: "ComparisonPlan", folder: Path, console: Console, *, jobs: int, threads: int) -> None:
    """Run what is due, write `comparison.json` and `comparison.svg`, print the table.

    Raises:
        EdgeDistillError: some runs failed; what there is was shown.
        InterruptedRunError: Ctrl-C.
    """
    _require_libraries()
    from edgedistill.comparison import comparison_record, run_comparison, write_figure

    try:
        with console.progress("compare") as report:
            comparison = run_comparison(
                plan, folder, jobs=jobs, threads=threads, progress=lambda at: _show_progress(report, at)
            )
    except KeyboardInterrupt as error:
        raise InterruptedRunError(
            f"Interrupted; finished runs are kept in {folder}. The same command goes on after them."
        ) from error
    record = comparison_record(comparison)
    write_json(folder / "comparison.json", record)
    write_figure(record, folder / "comparison.svg")
    console.emit(record)
    show_comparison(record, console)
    console.result(f"written: {folder / 'comparison.json'}, {folder / 'comparison.svg'}")
    if record["failures"]:
        raise EdgeDistillError(_failed(record["failures"]))


def _require_libraries() -> None:
    """Fail with the command that installs what is missing, before hours of training rather than after."""
    for extra, libraries in _LIBRARIES.items():
        for library in libraries:
            if importlib.util.find_spec(library) is None:
                raise MissingDependencyError(library, extra, "Comparing methods")


def _show_progress(report: Progress, at: "ComparisonProgress") -> None:
    note = f"{at.runs} of {at.planned_runs} runs"
    if at.job is not None and at.record is not None:
        note += f"; {at.job.described()}: {_came_of(at.record)}"
    report(at.work, at.planned_work, note)


def _came_of(record: dict[str, Any]) -> str:
    for key, label in (("error", "failed"), ("test_accuracy", "test"), ("validation_accuracy", "validation")):
        if key in record:
            value = record[key]
            return f"{label} {value:.1%}" if isinstance(value, float) else label
    return "done"


def _failed(failures: Sequence[dict[str, Any]]) -> str:
    first = failures[0]
    plural = "runs" if len(failures) > 1 else "run"
    return (
        f"{len(failures)} {plural} failed and are missing from the table; the first ({first['method']}, seed {first['seed']}):"
        f" {first['error']} The same command tries them again."
    )


def show_comparison(record: dict[str, Any], console: Console) -> None:
    """Print a table for each size: accuracies, differences to the reference, verdicts; then what the intervals cover.

    A narrow terminal gets the same figures as two tables.
    """
    seeds = len(record["seeds"])
    for size in record["train_sizes"]:
        rows = [row for row in record["rows"] if row["train_size"] == size]
        title = f"{'All' if size is None else size} training images, {seeds} seed{'s' if seeds > 1 else ''}"
        means, differences = _mean_columns(rows), _difference_columns(rows, record)
        names = {"method": [row["method"] for row in rows]}
        if sys.stdout.isatty() and shutil.get_terminal_size().columns < _WIDTH:
            _print_columns(console, title, {**names, **means})
            _print_columns(console, f"{title}, differences", {**names, **differences})
        else:
            _print_columns(console, title, {**names, **means, **differences})
    for method, reason in _reasons(record["rows"]):
        console.result(f"{method}: {reason}")
    for sentence in _at_the_edge(record):
        console.result(sentence)
    console.result(f"teacher: {words.percent(record['teacher_accuracy'])}")
    console.result(
        f"diff.: {record['reference']} minus the method, in points, paired by seed; p: two-sided, after Holm's correction."
    )
    for sentence in record["covers"]:
        console.result(sentence)


def _at_the_edge(record: dict[str, Any]) -> list[str]:
    """Name the methods whose weight is the smallest or largest that was tried: a better one may lie beyond."""
    tried = record["lambdas"]
    if len(tried) < 2:
        return []
    found = []
    for weight in (min(tried), max(tried)):
        names = dict.fromkeys(row["method"] for row in record["rows"] if weight in row["lambdas"])
        if names:
            found.append(
                f"lambda {weight:g} is at the edge of those tried ({', '.join(names)}): a better one may lie beyond; --lambdas"
                " takes more."
            )
    return found


def _reasons(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Say why rows have no interval, the methods with the same reason together."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        if row["difference"] and row["difference"]["reason"]:
            named = methods.setdefault(row["difference"]["reason"], [])
            named.extend([row["method"]] if row["method"] not in named else [])
    return [(", ".join(named), reason) for reason, named in methods.items()]


def _print_columns(console: Console, title: str, columns: dict[str, list[str]]) -> None:
    console.table(title, list(columns), list(zip(*columns.values(), strict=True)))


def _mean_columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    return {
        "test accuracy, %": [_spread(row["mean"], row["deviation"]) for row in rows],
        "lambda": [", ".join(f"{each:g}" for each in row["lambdas"]) or words.MISSING for row in rows],
        "runs": [
            f"{row['trainings']}" + (f", {row['missing']} missing" if row["missing"] else "") for row in rows
        ],
        "stuck": [str(row["stuck"]) for row in rows],
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
