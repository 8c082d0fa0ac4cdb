"""The comparison as one JSON document."""

from dataclasses import asdict
from typing import Any

from edgedistill.comparison.plan import Task
from edgedistill.comparison.reasons.jobs import deciding_settings
from edgedistill.comparison.run import Comparison
from edgedistill.comparison.statistics import coverage
from edgedistill.comparison.summary import Row, find_absences, find_floors_of, find_worth, summarise, teacher_accuracy


def comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Return what was compared, how, and the results; `docs/compare.md` names the fields."""
    plan = comparison.plan
    several = len(plan.tasks) > 1
    rows = summarise(comparison)
    return {
        "kind": "comparison",
        "schema": 1,
        "reference": plan.reference,
        "methods": {name: dict(settings) for name, settings in plan.methods.items()},
        "tasks": [_task(comparison, task) for task in plan.tasks],
        "seeds": list(plan.seeds),
        "train_sizes": list(plan.ordered_sizes()),
        "lambdas": list(plan.lambdas),
        "tune_seeds": plan.tune_seeds,
        "tune_sizes": plan.tune_sizes,
        "validation_images": plan.validation_images,
        "confidence": plan.confidence,
        "explain": None if comparison.asked is None else deciding_settings(comparison.asked),
        "covers": coverage(several),
        "rows": [_row(row) for row in rows],
        "worth": find_worth(comparison, rows),
        "absent": find_absences(comparison),
        "teacher_accuracy": teacher_accuracy(comparison, None),
        "over_tasks": several,
        "failures": [_failure(record) for record in comparison.results.failures()],
        "machines": sorted({record["machine"] for record in comparison.results.all() if "machine" in record}),
        "versions": _versions(comparison),
    }


def _task(comparison: Comparison, task: Task) -> dict[str, Any]:
    facts = comparison.facts[task.name]
    return {
        **asdict(task),
        "images": {"train": facts.train_count, "validation": facts.validation_count, "test": facts.test_count},
        "notes": list(facts.notes),
        "judged_by": facts.judged_by,
        "teacher_accuracy": teacher_accuracy(comparison, task.name),
        "reasons": find_floors_of(comparison, task),
    }


def _row(row: Row) -> dict[str, Any]:
    described = asdict(row)
    return {**described, "lambdas": list(row.lambdas), "runs": list(described["runs"])}


def _failure(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record.get(key) for key in ("task", "method", "train_size", "seed", "lambda_layer", "error")}


def _versions(comparison: Comparison) -> list[dict[str, Any]]:
    every = [record["versions"] for record in comparison.results.all() if record.get("versions") is not None]
    return [versions for place, versions in enumerate(every) if versions not in every[:place]]
