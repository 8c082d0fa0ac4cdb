"""Results of comparisons that nobody trained: every due job gets the figures that a function says."""

from collections.abc import Callable
from pathlib import Path

from edgedistill.comparison import Comparison, ComparisonPlan, open_comparison
from edgedistill.comparison.jobs import Job
from edgedistill.comparison.reasons.jobs import deciding_settings
from edgedistill.comparison.results import Record
from edgedistill.comparison.schedule import due_jobs

Accuracy = Callable[[Job], float]


def written_results(
    plan: ComparisonPlan, folder: Path, test: Accuracy, validation: Accuracy, agreement: Accuracy = lambda _: 0.5
) -> Comparison:
    """Write a record for every job that becomes due, until none is, and return the comparison.

    The agreement of a student, or of one of random weights, is the cosine; the other measures are half of it.
    """
    folder.mkdir(exist_ok=True)
    comparison = open_comparison(plan, folder)
    while jobs := due_jobs(comparison.tracks, comparison.results):
        for job in jobs:
            record: Record = {"key": job.key, "kind": job.kind, "task": job.task.name, "method": job.method}
            if job.kind == "train":
                student = comparison.results.student_path(job.key)
                student.parent.mkdir(exist_ok=True, parents=True)
                student.touch()
                record |= {"validation_accuracy": validation(job), "stuck": int(test(job) < 0.5)}
                record |= {"seed": job.seed, "lambda_layer": job.config.lambda_layer}
                record |= {"best_epoch": 1, "epochs": job.config.epochs}
            elif job.kind == "floors":
                assert job.explain is not None
                record |= {"seed": job.seed, "asked": deciding_settings(job.explain), "attribution": "lrp"}
                record |= {"images": 8, "other_class": measures(-0.25), "random_student": measures(agreement(job))}
            elif job.kind == "explain":
                record |= {"trained": job.trained, "reasons": measures(agreement(job))}
            else:
                record |= {"test_accuracy": test(job)}
            comparison.results.add(record)
    return comparison


def measures(cosine: float) -> dict[str, float]:
    return {"cosine": cosine, "spearman": cosine / 2, "top_decile": cosine / 2}
