"""Points from outside the bundle for the plane of accuracy against cost: compared methods, and planned students."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.recommendation.summary import ArtefactSummary
from edgedistill_deploy.records.studies.comparison import ComparedTask, ComparisonStudy
from edgedistill_deploy.records.studies.plan import PlannedRow, PlanStudy
from edgedistill_deploy.records.studies.reading import Studies
from edgedistill_deploy.report.content.points import Plane, PlanePoint
from edgedistill_deploy.wording import counted

MOST_POINTS = 40  # of comparisons, and of plans each
_JUDGED_BY = {"accuracy": "labels", "agreement with the teacher": "teacher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPoint:
    """A student that was timed and not trained, with the device of its plan."""

    row: PlannedRow
    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What stands beside the bundle's own models: points with an accuracy, students without, and what was left out."""

    points: tuple[PlanePoint, ...] = ()
    planned: tuple[PlannedPoint, ...] = ()
    notes: tuple[str, ...] = ()


def beside_of(bundle: Bundle, plane: Plane | None, rows: Sequence[ArtefactSummary], studies: Studies) -> Beside:
    """Return the points of the studies that can stand in the plane of this bundle; notes say which cannot, and why."""
    points: list[PlanePoint] = []
    notes: list[str] = []
    for folder, study in studies.comparisons:
        found, told = _compared(bundle, plane, rows, (folder, study), studies)
        points += found
        notes += told
    planned = [PlannedPoint(row=row, device=plan.device) for _, plan in studies.plans for row in plan.timed]
    for what, count in (("compared methods", len(points)), ("planned students", len(planned))):
        if count > MOST_POINTS:
            notes.append(f"Of {count} {what}, the first {MOST_POINTS} are shown.")
    return Beside(points=tuple(points[:MOST_POINTS]), planned=tuple(planned[:MOST_POINTS]), notes=tuple(notes))


def _compared(
    bundle: Bundle,
    plane: Plane | None,
    rows: Sequence[ArtefactSummary],
    named: tuple[str, ComparisonStudy],
    studies: Studies,
) -> tuple[list[PlanePoint], list[str]]:
    folder, study = named
    task = study.task_of(bundle.class_names)
    if task is None:
        return [], [f"The comparison {folder} has other classes, so it is left out."]
    if plane is None or task.judged_by != _JUDGED_BY[plane.measure]:
        measure = "agreement with the teacher" if task.judged_by == "teacher" else "accuracy"
        return [], [f"The comparison {folder} measures {measure}, and this page does not, so it is left out."]
    cost = _cost(bundle, rows, task, studies)
    found = study.rows_of(task)
    untold = [] if cost["p50_ms"] is not None or not found else [
        f"How fast the student of {folder} is, {_named(task)}, is not known; `edgedistill plan` times it."
    ]  # fmt: skip
    images = f"on {found[0].train_size} training images" if found and found[0].train_size else "on all images"
    seeds = max((len(row.runs) for row in found), default=0)
    told = f"{folder} compares {_named(task)}, {images}, by the mean of {counted(seeds, 'seed')}."
    points = [
        PlanePoint(name=row.method, kind="compared", share=row.mean, interval=None, **cost)
        for row in found
        if row.mean is not None
    ]
    return points, [told, *untold]


def _named(task: ComparedTask) -> str:
    return PlannedRow(student=task.student, width=task.student_width, precision="fp32").label


def _cost(bundle: Bundle, rows: Sequence[ArtefactSummary], task: ComparedTask, studies: Studies) -> dict[str, Any]:
    """Return what a compared student costs: as a plan timed it, else what the fp32 expert of the same name takes."""
    planned = _planned_time(task, [plan for _, plan in studies.plans])
    if planned is not None:
        return {"p50_ms": planned[1], "device": planned[0], "batch_size": 1, "file_bytes": None}
    own = [row for row in rows if row.precision == "fp32" and bundle.manifest["student"].get("name") == task.student]
    same = next((row for row in own if row.p50_ms is not None), None) or next(iter(own), None)
    return {
        "p50_ms": same.p50_ms if same else None,
        "device": (same.device or "") if same else "",
        "batch_size": same.batch_size if same else None,
        "file_bytes": same.file_bytes if same else None,
    }


def _planned_time(task: ComparedTask, plans: Sequence[PlanStudy]) -> tuple[str, float] | None:
    """Return the device and the p50 in ms of the task's student in a plan; None where no plan has it."""
    for plan in plans:
        for row in plan.timed:
            if (row.student, row.width, row.precision) == (task.student, task.student_width, "fp32"):
                return plan.device, float(row.p50_ms or 0.0)
    return None
