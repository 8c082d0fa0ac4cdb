"""A parity record as a list of cases that hold or do not hold, for reports to build servers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.parity import Accuracy, Numeric, ParityReport, RelationResult, UnreadableParity
from edgedistill_deploy.statistics.paired import non_inferiority

Status = Literal["pass", "fail", "inconclusive", "skipped", "error"]
Record = ParityReport | UnreadableParity


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One judged thing: its `group` in the record, its name, its result, and one or two sentences about it."""

    group: str
    name: str
    status: Status
    message: str


def is_judged(record: Record, records: Sequence[Record]) -> bool:
    """Say whether a record counts for the gate. The teacher's own file counts only if it is alone."""
    return len(records) == 1 or not record.model.is_teacher


def cases_of(record: Record) -> tuple[Case, ...]:
    """Return the cases of a parity record; one case of status "error" if it cannot be read."""
    if isinstance(record, UnreadableParity):
        return (_case("record", "error", f"The record cannot be read: {record.problem}."),)
    return tuple(_cases(record))


def _cases(report: ParityReport) -> Iterator[Case]:
    reasons = " ".join(report.judgement.reasons)
    yield _case("verdict", report.verdict, reasons or f"The verdict is {report.verdict}.")
    yield _drop_case(report.accuracy, report.judgement.limits.max_drop)
    share = words.percent(report.likeness.agreement)
    message = f"{share} of {report.images.sample_count} images are answered as the teacher does."
    yield _case("agreement", "pass", message)  # it has no limit of its own
    yield _golden_case(report.soundness.numeric)
    for item in report.soundness.tests:
        group = "metamorphic" if isinstance(item, RelationResult) else "checks"
        status: Status = "pass" if item.passed else "fail"
        yield Case(group=group, name=item.name, status=status, message=item.detail)


def _case(name: str, status: Status, message: str) -> Case:
    return Case(group="parity", name=name, status=status, message=message)


def _drop_case(accuracy: Accuracy, limit: float) -> Case:
    if not accuracy.labelled_count:
        return _case("accuracy_drop", "skipped", "No label is known, so the drop in accuracy cannot be measured.")
    message = (
        f"The drop is {words.points(accuracy.drop)}, its interval {words.points_interval(accuracy.interval)}, the "
        f"limit {words.points(limit)}: {words.percent(accuracy.candidate)} right where the teacher is "
        f"{words.percent(accuracy.teacher)}, on {accuracy.labelled_count} images."
    )
    return _case("accuracy_drop", non_inferiority(accuracy.interval, limit), message)


def _golden_case(numeric: Numeric) -> Case:
    name, error, tolerance = "golden_outputs", numeric.max_abs_error, numeric.tolerance
    if not numeric.image_count:
        return _case(name, "skipped", "No outputs were recorded to compare with.")
    if error is None:
        return _case(name, "fail", "The recorded inputs gave logits that are not finite, or of another shape.")
    if tolerance is None:
        return _case(name, "skipped", f"The largest error is {error:.3g}; this precision differs by design.")
    message = f"The largest error against the recorded outputs is {error:.3g}, the tolerance {tolerance:.3g}."
    return _case(name, "pass" if error <= tolerance else "fail", message)
