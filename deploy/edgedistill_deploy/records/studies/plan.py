"""The part of a plan's record that a page shows: students that were timed before any training."""

from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy.records.schema import Record, Time


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """One untrained student in one precision; `p50_ms` is None where it could not be timed."""

    student: str
    width: float
    precision: str
    parameters: int | None = None
    multiply_adds: int | None = None
    p50_ms: Time | None = None
    within_budget: Literal["pass", "fail", "inconclusive"] | None = None
    proposed: bool = False

    @property
    def label(self) -> str:
        """The student as `plan` calls it."""
        return self.student if self.width == 1 else f"{self.student}@{self.width:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStudy(Record):
    """A plan for one device."""

    KIND = "student-plan"

    device: str
    budget_ms: Time
    rows: tuple[PlannedRow, ...]

    @property
    def timed(self) -> tuple[PlannedRow, ...]:
        """The rows with a time."""
        return tuple(row for row in self.rows if row.p50_ms is not None)
