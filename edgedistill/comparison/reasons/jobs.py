"""The jobs that explain: what agreement costs nothing on a task, then every student that counts. No torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from edgedistill.comparison.jobs import Job
from edgedistill.comparison.plan import ComparisonPlan, Task, TaskFacts, key_of
from edgedistill.comparison.results import Record, Results
from edgedistill.config import DistillConfig
from edgedistill.explanation.config import INTEGRATED_GRADIENTS, ExplainConfig
from edgedistill_deploy.errors import UsageError

FLOORS: Final = "floors"
EXPLAIN: Final = "explain"
_ASKED = ("method", "images", "steps", "seed")


def deciding_settings(config: ExplainConfig) -> dict[str, Any]:
    """Return the settings that the figures depend on, for keys and records."""
    return {name: getattr(config, name) for name in _ASKED}


def floors_jobs(config: ExplainConfig, plan: ComparisonPlan, task: Task, facts: TaskFacts) -> list[Job]:
    """Make the jobs, one for each seed, that say what agreement a task gives for nothing.

    Each explains the teacher, for the class that it sees and for another one, and a student of random weights. So it
    also finds the method of attribution, which every student of the task is then explained by.
    """
    asked = {
        "content": facts.fingerprint,
        "classes": task.classes,
        "student": (task.student, task.student_width),
        "start": facts.start,
        "image_size": task.image_size,
        "asked": deciding_settings(config),
    }
    return [
        Job(
            kind=FLOORS,
            key=key_of({**asked, FLOORS: seed}),
            task=task,
            seed=seed,
            config=DistillConfig(**{**task.settings, "seed": seed}),
            validation_images=plan.validation_images,
            explain=config,
            work=_work(config, facts),
        )
        for seed in plan.seeds
    ]


def explain_job(trained: Job, config: ExplainConfig, method: str, facts: TaskFacts) -> Job:
    """Make the job that explains the student that `trained` trains, by the method that the task's floors found."""
    found = replace(config, method=method)
    return replace(
        trained,
        kind=EXPLAIN,
        key=key_of({EXPLAIN: trained.key, "asked": deciding_settings(found)}),
        trained=trained.key,
        explain=found,
        work=_work(found, facts),
    )


def find_floors(jobs: Sequence[Job], results: Results) -> list[Record]:
    """Return the records of the floors that are known, in the order of the seeds."""
    return [record for job in jobs if (record := results.find_finished(job.key)) is not None]


def kept_settings(results: Results, plan: ComparisonPlan, facts: dict[str, TaskFacts]) -> ExplainConfig | None:
    """Return the settings by which these tasks were explained last; None where they never were."""
    for record in reversed(results.all()):
        config = _read_settings(record) if record["kind"] == FLOORS else None
        if config is None:
            continue
        keys = {job.key for task in plan.tasks for job in floors_jobs(config, plan, task, facts[task.name])}
        if record["key"] in keys:
            return config
    return None


def _read_settings(record: Record) -> ExplainConfig | None:
    try:
        return ExplainConfig(**{name: record["asked"][name] for name in _ASKED})
    except (UsageError, KeyError, TypeError):
        return None


def _work(config: ExplainConfig, facts: TaskFacts) -> int:
    """Return how many images pass through a student."""
    passes = config.steps if config.method == INTEGRATED_GRADIENTS else 1
    return passes * min(config.images, facts.validation_count)
