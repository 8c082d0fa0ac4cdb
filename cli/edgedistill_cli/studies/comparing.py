"""From flags to a comparison: its plan, the runs that are due, and what they came to."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError
from edgedistill_cli.runs.libraries import require_comparison
from edgedistill_cli.settings import RunSettings
from edgedistill_cli.studies.comparison_table import show_comparison
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.progress import Progress

if TYPE_CHECKING:
    from edgedistill.comparison import ComparisonPlan, ComparisonProgress, Task


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
        raise UsageError(f"{flag} takes whole numbers with commas between them, and {text!r} was given.") from error


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
    require_comparison()
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
        raise EdgeDistillError(_describe_failures(record["failures"]))


def _show_progress(report: Progress, at: "ComparisonProgress") -> None:
    note = f"{at.runs} of {at.planned_runs} runs"
    if at.job is not None and at.record is not None:
        note += f"; {at.job.describe()}: {_came_of(at.record)}"
    report(at.work, at.planned_work, note)


def _came_of(record: dict[str, Any]) -> str:
    for key, label in (("error", "failed"), ("test_accuracy", "test"), ("validation_accuracy", "validation")):
        if key in record:
            value = record[key]
            return f"{label} {value:.1%}" if isinstance(value, float) else label
    return "done"


def _describe_failures(failures: Sequence[dict[str, Any]]) -> str:
    first = failures[0]
    plural = "runs" if len(failures) > 1 else "run"
    return (
        f"{len(failures)} {plural} failed and are missing from the table; the first ({first['method']}, seed "
        f"{first['seed']}): {first['error']} The same command tries them again."
    )
