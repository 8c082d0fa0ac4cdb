"""Which candidates are worth distilling: those within the budget that no other candidate dominates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from edgedistill.planning.candidates import Candidate
from edgedistill.planning.widths import LayerWidth
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.latency.budget import Budget, check_budget
from edgedistill_deploy.statistics.quantiles import OpenInterval
from edgedistill_deploy.statistics.verdicts import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """One candidate in one precision.

    Attributes:
        student: a name as in `--student`; `width` is as in `--student-width`.
        parameters, multiply_adds: of the fp32 network.
        value_ms: the percentile of the budget, and `interval` around it.
        widths: beside the suggested ones; None where nothing was inspected or no layers pair.
        wide_enough: whether every paired layer has the suggested width; None where that is not known.
        dominated_by: a row that is surely faster and has no fewer parameters and multiply-adds.
        proposed: worth distilling: within the budget and not dominated.
        flags: reasons to doubt the time.
        error: why there is no time.
    """

    student: str
    width: float
    precision: str
    parameters: int | None = None
    multiply_adds: int | None = None
    p50_ms: float | None = None
    value_ms: float | None = None
    interval: OpenInterval = (None, None)
    within_budget: Verdict | None = None
    runs_to_decide: int | None = None
    widths: tuple[LayerWidth, ...] | None = None
    wide_enough: bool | None = None
    dominated_by: str | None = None
    proposed: bool = False
    flags: tuple[str, ...] = ()
    error: str | None = None

    @property
    def label(self) -> str:
        """The candidate and its precision."""
        return f"{Candidate(name=self.student, width=self.width)} {self.precision}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def plan_row(candidate: Candidate, record: Mapping[str, Any], student: Mapping[str, Any], budget: Budget) -> PlanRow:
    """Judge one latency record of a candidate; `student` is the manifest's record of its cost."""
    judged = check_budget(record, budget)
    return PlanRow(
        student=candidate.name,
        width=candidate.width,
        precision=record["precision"],
        parameters=student["parameters"],
        multiply_adds=student["multiply_adds"],
        p50_ms=record["p50_ms"],
        value_ms=judged.value_ms,
        interval=judged.interval,
        within_budget=judged.verdict,
        runs_to_decide=judged.runs_to_decide,
        flags=tuple(record["flags"]),
    )


def with_widths(row: PlanRow, widths: tuple[LayerWidth, ...] | None) -> PlanRow:
    """Return the row with its widths and whether they suffice."""
    enough = None if widths is None else all(each.width >= each.suggested for each in widths)
    return replace(row, widths=widths, wide_enough=enough)


def judge_rows(rows: Sequence[PlanRow]) -> tuple[PlanRow, ...]:
    """Mark which rows are dominated and which are proposed; the largest first, then those that were not measured.

    Parameters and multiply-adds stand for what a student can learn. A row is dominated by another row that has no fewer
    of either and whose whole interval lies below. Rows whose intervals overlap do not dominate each other.
    """
    judged = (_judge_row(row, rows) for row in rows)
    order = sorted(judged, key=lambda row: (row.error is not None, -(row.multiply_adds or 0), row.value_ms or 0.0))
    return tuple(order)


def _judge_row(row: PlanRow, rows: Sequence[PlanRow]) -> PlanRow:
    if row.error is not None:
        return row
    better = next((other.label for other in rows if _dominates(other, row)), None)
    return replace(row, dominated_by=better, proposed=better is None and row.within_budget == "pass")


def _dominates(other: PlanRow, row: PlanRow) -> bool:
    if other.error is not None or other.parameters is None or other.multiply_adds is None:
        return False
    high, low = other.interval[1], row.interval[0]
    surely_faster = high is not None and low is not None and high < low
    as_large = other.parameters >= (row.parameters or 0) and other.multiply_adds >= (row.multiply_adds or 0)
    return surely_faster and as_large


def plan_verdict(rows: Sequence[PlanRow]) -> Verdict:
    """Return "pass" when one row fits the budget, "inconclusive" when one may fit, else "fail".

    Raises EdgeDistillError when nothing could be measured.
    """
    found = {row.within_budget for row in rows if row.within_budget is not None}
    if not found:
        raise EdgeDistillError(f"None of the students could be measured; the first: {rows[0].label}: {rows[0].error}")
    if "pass" in found:
        return "pass"
    return "inconclusive" if "inconclusive" in found else "fail"
