"""From the results of single runs to one row a method: mean, spread, difference to the reference, verdict."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgedistill.comparison.jobs import evaluation_job, teacher_job
from edgedistill.comparison.methods import PLAIN
from edgedistill.comparison.plan import Task
from edgedistill.comparison.reasons.jobs import find_floors, floors_jobs
from edgedistill.comparison.reasons.summary import Explained, Reasons, floors_record, summarise_reasons
from edgedistill.comparison.run import Comparison
from edgedistill.comparison.schedule import Track
from edgedistill.comparison.statistics import (
    Difference,
    Measured,
    add_verdicts,
    compare_pairs,
    mean_of_tasks,
    pair_up,
    say_worth,
    spread_over_seeds,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalRun:
    """One run that counts: its test accuracy, and how its student was trained.

    `reasons` are the mean agreement of its maps with the teacher's, by measure; None where it is not explained.
    """

    task: str
    seed: int
    test_accuracy: float
    validation_accuracy: float
    lambda_layer: float | None
    best_epoch: int
    epochs: int
    stuck: int
    key: str
    reasons: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method at one size, on one task, or on all of them (`task` is None).

    Attributes:
        train_size: number of training images; None is all.
        mean: of the test accuracies; over several tasks the mean of the tasks' means. None without runs.
        deviation: sample standard deviation over seeds; over several tasks that of the seeds' means. None for one seed.
        lambdas: the weights that were chosen, each once.
        trainings: all trained runs, also those that chose the weight.
        missing: runs that failed or were not done yet.
        stuck: runs that never predict at least one class on validation images; they are part of the mean.
        difference: reference minus this method; None for the reference itself.
        runs: those that count.
        reasons: how far they agree with the teacher on what the answers rest on; None where nothing is explained.
    """

    task: str | None
    train_size: int | None
    method: str
    mean: float | None
    deviation: float | None
    lambdas: tuple[float, ...]
    trainings: int
    missing: int
    stuck: int
    difference: Difference | None = None
    runs: tuple[FinalRun, ...]
    reasons: Reasons | None = None


def summarise(comparison: Comparison) -> tuple[Row, ...]:
    """Return the rows of every task and size; after several tasks, those of all tasks together."""
    plan = comparison.plan
    names = [task.name for task in plan.tasks]
    return tuple(
        row
        for task in (names if len(names) == 1 else [*names, None])
        for size in plan.ordered_sizes()
        for row in _compared_rows(comparison, task, size)
    )


def _compared_rows(comparison: Comparison, task: str | None, size: int | None) -> list[Row]:
    plan = comparison.plan
    rows = [_row(comparison, task, size, method) for method in _shown_methods(comparison, task)]
    rows = _with_differences(rows, plan.reference, plan.confidence)
    return rows if comparison.asked is None else _with_reasons(rows, plan.reference, plan.confidence)


def find_floors_of(comparison: Comparison, task: Task) -> dict[str, Any] | None:
    """Return what agreement means nothing on a task, as `floors_record` does; None where it is not explained."""
    if comparison.asked is None:
        return None
    jobs = floors_jobs(comparison.asked, comparison.plan, task, comparison.facts[task.name])
    return floors_record(find_floors(jobs, comparison.results))


def find_absences(comparison: Comparison) -> list[dict[str, str]]:
    """Return {task, method, reason} where a student cannot be judged as it starts, and so has no row."""
    return [
        {"task": track.task.name, "method": track.method, "reason": reason}
        for track in comparison.tracks
        if (reason := track.find_absence(comparison.results))
    ]


def _shown_methods(comparison: Comparison, task: str | None) -> list[str]:
    """Return the methods with a row: all but those that are absent from the task, or from any where it is None."""
    absent = {each["method"] for each in find_absences(comparison) if task in (None, each["task"])}
    return [method for method in comparison.plan.methods if method not in absent]


def find_worth(comparison: Comparison, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return {task, train_size, sentence}: whether the reference beats the best of the plain ways."""
    plan = comparison.plan
    places = dict.fromkeys((row.task, row.train_size) for row in rows)
    found = []
    for task, size in places if plan.reference not in PLAIN else ():
        rivals = {
            row.method: (row.mean, row.difference)
            for row in rows
            if (row.task, row.train_size) == (task, size) and row.method in PLAIN and row.mean is not None
            if row.difference is not None
        }
        sentence = say_worth(rivals, plan.reference, "more seeds would")
        found.append({"task": task, "train_size": size, "sentence": sentence})
    return [each for each in found if each["sentence"]]


def teacher_accuracy(comparison: Comparison, task: str | None) -> float | None:
    """Return the teacher's accuracy on a task's test images, or the mean over all tasks; None while one is missing."""
    records = [
        comparison.results.find_finished(teacher_job(each, comparison.facts[each.name]).key)
        for each in comparison.plan.tasks
        if task in (None, each.name)
    ]
    known = [record["test_accuracy"] for record in records if record is not None]
    return statistics.fmean(known) if len(known) == len(records) else None


def _row(comparison: Comparison, task: str | None, size: int | None, method: str) -> Row:
    tracks = [track for track in comparison.tracks if track.method == method and task in (None, track.task.name)]
    runs = tuple(run for track in tracks for run in _final_runs(comparison, track, size))
    measured = _measured(runs)
    return Row(
        task=task,
        train_size=size,
        method=method,
        mean=mean_of_tasks(measured),
        deviation=spread_over_seeds(measured),
        lambdas=tuple(sorted({run.lambda_layer for run in runs if run.lambda_layer is not None})),
        trainings=sum(_trainings(comparison, track, size) for track in tracks),
        missing=len(tracks) * len(comparison.plan.seeds) - len(runs),
        stuck=sum(run.stuck > 0 for run in runs),
        runs=runs,
    )


def _final_runs(comparison: Comparison, track: Track, size: int | None) -> list[FinalRun]:
    results = comparison.results
    explained = _reasons_by_training(comparison, track, size)
    found = []
    for job in track.final(size, results):
        trained, tested = results.find_finished(job.key), results.find_finished(evaluation_job(job).key)
        if trained is not None and tested is not None:
            found.append(
                FinalRun(
                    task=track.task.name,
                    seed=job.seed,
                    test_accuracy=tested["test_accuracy"],
                    validation_accuracy=trained["validation_accuracy"],
                    lambda_layer=trained["lambda_layer"] if track.tuned else None,
                    best_epoch=trained["best_epoch"],
                    epochs=trained["epochs"],
                    stuck=trained["stuck"],
                    key=job.key,
                    reasons=explained.get(job.key),
                )
            )
    return found


def _reasons_by_training(comparison: Comparison, track: Track, size: int | None) -> dict[str, Mapping[str, float]]:
    """Return {key of a training: agreement of its student} for those that are explained."""
    if comparison.asked is None:
        return {}
    jobs = track.explanations(comparison.asked, size, comparison.results)
    records = {job.trained: comparison.results.find_finished(job.key) for job in jobs}
    return {trained: record["reasons"] for trained, record in records.items() if record is not None}


def _trainings(comparison: Comparison, track: Track, size: int | None) -> int:
    """Count the runs of this method at this size that were done or tried, each once."""
    runs = [*track.final(size, comparison.results), *track.tuning_jobs(size)]
    done = [job for job in runs if job.kind == "train" and comparison.results.get(job.key) is not None]
    return len({job.key for job in done})


def _with_differences(rows: Sequence[Row], reference: str, confidence: float) -> list[Row]:
    first = next(row for row in rows if row.method == reference)
    differences = [
        None if row is first else compare_pairs(pair_up(_measured(first.runs), _measured(row.runs)), confidence)
        for row in rows
    ]
    return [
        replace(row, difference=difference)
        for row, difference in zip(rows, add_verdicts(differences, confidence), strict=True)
    ]


def _with_reasons(rows: Sequence[Row], reference: str, confidence: float) -> list[Row]:
    explained = {row.method: [Explained(run.task, run.seed, run.reasons) for run in row.runs] for row in rows}
    found = summarise_reasons(explained, reference, confidence)
    return [replace(row, reasons=found[row.method]) for row in rows]


def _measured(runs: Sequence[FinalRun]) -> list[Measured]:
    return [Measured(run.task, run.seed, run.test_accuracy) for run in runs]
