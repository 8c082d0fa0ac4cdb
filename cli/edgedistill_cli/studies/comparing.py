"""From flags to a comparison: its plan, the runs that are due, and their results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import InterruptedRunError
from edgedistill_cli.runs.inputs import find_classes, load_run_teacher, with_rest
from edgedistill_cli.runs.libraries import require_comparison, require_explanation
from edgedistill_cli.runs.preflight import Preflight
from edgedistill_cli.settings import RunSettings
from edgedistill_cli.studies.comparison_table import show_comparison
from edgedistill_cli.studies.reasons_table import show_reasons
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.progress import Progress

if TYPE_CHECKING:
    from edgedistill.comparison import ComparisonPlan, ComparisonProgress, Task
    from edgedistill.explanation.config import ExplainConfig

Number = TypeVar("Number", int, float)


def make_plan(
    settings: RunSettings,
    labels: Sequence[str] | None = None,
    *,
    methods: Sequence[str] | None,
    seeds: int,
    sizes: str | None,
    lambdas: str | None,
    tune_sizes: str,
    tune_seeds: int,
    validation_images: int | None,
    has_labels: bool = True,
    explain: "ExplainConfig | None" = None,
) -> "ComparisonPlan":
    """Turn settings and the flags of `compare` into a plan.

    `labels` are the teacher's where they are known. Where no image `has_labels`, the method that needs them is left
    out.
    """
    from edgedistill.comparison import AS_IS, LAMBDAS, METHODS, ComparisonPlan, named_methods
    from edgedistill.comparison.methods import LABELS

    first = settings.distill.seed
    usual = [name for name in METHODS if has_labels or name != LABELS]
    chosen = usual if methods is None else list(methods)
    # The student as it starts needs no training, so it always stands beside the others.
    beside = [] if AS_IS in chosen else [AS_IS]
    return ComparisonPlan(
        tasks=(_build_task(settings, labels),),
        methods=named_methods([*chosen, *beside]),
        seeds=tuple(range(first, first + seeds)),
        sizes=_read_numbers("--train-sizes", sizes, int, "whole numbers") if sizes is not None else (None,),
        lambdas=_read_numbers("--lambdas", lambdas, float, "numbers") if lambdas is not None else LAMBDAS,
        tune_sizes=tune_sizes,
        tune_seeds=tune_seeds,
        validation_images=validation_images,
        confidence=settings.validate.confidence,
        explain=explain,
    )


def read_reasons(wanted: bool, given: Mapping[str, Any]) -> "ExplainConfig | None":
    """Return how students are explained, from the flags that are given; None where it is not `wanted`.

    Raises:
        UsageError: a setting that cannot be, or one for what is not wanted.
        MissingDependencyError: a library for it is not installed.
    """
    from edgedistill.explanation.config import ExplainConfig

    if not wanted:
        if given:
            raise UsageError(f"--explain-{next(iter(given))} says how to explain; give --explain as well.")
        return None
    try:
        config = ExplainConfig(**given)
    except UsageError as error:
        raise UsageError(f"For --explain, {error}") from error
    require_explanation(config.method)
    return config


def _read_numbers(flag: str, text: str, kind: Callable[[str], Number], kinds: str) -> tuple[Number, ...]:
    try:
        return tuple(kind(each) for each in text.split(","))
    except ValueError as error:
        raise UsageError(f"{flag} takes {kinds} with commas between them, and {text!r} was given.") from error


def _build_task(settings: RunSettings, labels: Sequence[str] | None) -> "Task":
    from edgedistill.comparison import Task
    from edgedistill.data.sources import open_source
    from edgedistill.subtasks.subtask import find_subtask

    distill, classes = asdict(settings.distill), find_classes(settings.subtask)
    if labels is not None:
        # A name that needs its teacher's label to find its folder is a group there; all others stay as they were given.
        labelled = find_subtask(labels, classes, least=1).classes
        pairs = zip(classes, labelled, strict=True)
        classes = tuple(own if isinstance(other, str) or not isinstance(own, str) else other for own, other in pairs)
    if settings.subtask.rest:
        known = load_run_teacher(settings.teacher).class_names if labels is None else labels
        classes = with_rest(classes, settings.subtask, known, open_source(settings.data.source))
    return Task(
        name=settings.subtask.name or "subtask",
        teacher=settings.teacher.name,
        source=settings.data.source,
        classes=classes,
        student=settings.student.name,
        settings={key: value for key, value in distill.items() if key not in ("seed", "lambda_layer")},
        student_width=settings.student.width,
        student_weights=settings.student.weights,
        student_channels=settings.student.channels or "",
        teacher_weights=settings.teacher.weights,
        teacher_classes=settings.teacher.classes,
        teacher_pixels=settings.teacher.pixels or "",
        allow_code=settings.teacher.allow_code,
        image_size=settings.data.image_size,
        split_seed=settings.distill.seed,
        max_bad=settings.data.max_bad,
        unlabelled=settings.data.unlabelled or "",
    )


def require_one_teacher(settings: RunSettings) -> None:
    """Raise UsageError for several teachers, or an assistant: every method of a comparison has one and the same."""
    if settings.teacher.beside:
        raise UsageError("A comparison trains every method under one teacher, and several were given; give one.")
    if settings.student.assistant:
        raise UsageError(
            "A comparison trains every method under the teacher itself, and an assistant was given; leave it out."
        )


def check_classes(settings: RunSettings) -> None:
    """Check that the teacher has the classes, before any image is read.

    Raises:
        UsageError: it lacks one; the message names the nearest classes.
    """
    from edgedistill.subtasks.subtask import find_subtask

    classes, teacher = find_classes(settings.subtask), load_run_teacher(settings.teacher)
    find_subtask(teacher.class_names, classes, least=1 if settings.subtask.rest else 2)


def show_due(plan: "ComparisonPlan", folder: Path, console: Console, found: Preflight) -> None:
    """Print how many runs there are and how many are done; run none. `found` is what was checked before."""
    from edgedistill.comparison import open_comparison, planned_explanations, planned_runs
    from edgedistill.comparison.methods import is_untrained

    comparison = open_comparison(plan, folder)
    total, done = planned_runs(comparison)
    explanations, explained = planned_explanations(comparison)
    record = {"kind": "comparison-plan", "schema": 1, "out": str(folder), "runs": total, "done": done}
    record |= {"explanations": explanations, "explained": explained}
    console.emit(record | found.to_json())
    trained = [name for name, own in plan.methods.items() if not is_untrained(own)]
    console.result(f"{total} runs of {len(trained)} methods, {done} of them done in {folder}")
    if explanations:
        console.result(f"{explanations} explanations, {explained} of them done")


def run_and_show(plan: "ComparisonPlan", folder: Path, console: Console, *, jobs: int, threads: int) -> None:
    """Run what is due, write `comparison.json` and `comparison.svg`, print the table.

    Raises:
        EdgeDistillError: some runs failed; the table shows the others.
        InterruptedRunError: Ctrl-C.
    """
    require_comparison(task.student for task in plan.tasks)
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
    write_json(folder / "comparison.json", record, inside=folder)
    write_figure(record, folder / "comparison.svg")
    console.emit(record)
    show_comparison(record, console)
    show_reasons(record, console)
    console.result(f"written: {folder / 'comparison.json'}, {folder / 'comparison.svg'}")
    if record["failures"]:
        raise EdgeDistillError(_describe_failures(record["failures"]))


def _show_progress(report: Progress, at: "ComparisonProgress") -> None:
    note = f"{at.runs} of {at.planned_runs} runs"
    if at.planned_explanations:
        note += f", {at.explained} of {at.planned_explanations} explanations"
    if at.job is not None and at.record is not None:
        note += f"; {at.job.describe()}: {_describe_result(at.record)}"
    report(at.work, at.planned_work, note)


def _describe_result(record: dict[str, Any]) -> str:
    for key, label in (("error", "failed"), ("test_accuracy", "test"), ("validation_accuracy", "validation")):
        if key in record:
            value = record[key]
            return f"{label} {value:.1%}" if isinstance(value, float) else label
    if "reasons" in record:
        return f"agreement of reasons {record['reasons']['cosine']:.2f}"
    return "done"


def _describe_failures(failures: Sequence[dict[str, Any]]) -> str:
    first = failures[0]
    plural = "runs" if len(failures) > 1 else "run"
    return (
        f"{len(failures)} {plural} failed and are missing from the table; the first ({first['method']}, seed "
        f"{first['seed']}): {first['error']} The same command tries them again."
    )
