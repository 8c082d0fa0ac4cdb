"""A parity record as a list of cases that hold or do not hold, for reports to build servers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.parity import (
    GOLDEN_OUTPUTS,
    Accuracy,
    Numeric,
    ParityReport,
    RelationResult,
    UnreadableParity,
)
from edgedistill_deploy.statistics.paired import hold_share, non_inferiority
from edgedistill_deploy.statistics.verdicts import worst_verdict

Status = Literal["pass", "fail", "inconclusive", "skipped", "error"]
Record = ParityReport | UnreadableParity


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One judged thing: its `group` in the record, its name, its result, and one or two sentences about it."""

    group: str
    name: str
    status: Status
    message: str


def by_bundle(records: Sequence[Record]) -> tuple[Sequence[Record], ...]:
    """Return the records of each bundle, in the order in which the bundles come."""
    names = dict.fromkeys(record.bundle for record in records)
    return tuple([record for record in records if record.bundle == name] for name in names)


def is_judged(record: Record, records: Sequence[Record]) -> bool:
    """Say whether a record counts for the gate, among those of its bundle.

    The teacher's own file counts only if it is alone.
    """
    return len(records) == 1 or not record.model.is_teacher


def cases_of(record: Record) -> tuple[Case, ...]:
    """Return the cases of a parity record; one case of status "error" if it cannot be read."""
    if isinstance(record, UnreadableParity):
        return (_case("record", "error", f"{record.what}: {record.problem.rstrip('.')}."),)
    return tuple(_cases(record))


def _cases(report: ParityReport) -> Iterator[Case]:
    reasons = " ".join(report.judgement.reasons)
    yield _case("verdict", report.verdict, reasons or f"The verdict is {report.verdict}.")
    yield _drop_case(report.accuracy, report.judgement.limits.max_drop)
    yield _agreement_case(report)
    yield _classes_case(report)
    for found in report.judgement.class_findings or ():
        yield Case(group="classes", name=found.name, status=found.verdict, message=found.detail)
    unchecked = {each.name: each.detail for each in report.soundness.not_checked}
    yield _golden_case(report.soundness.numeric, unchecked.pop(GOLDEN_OUTPUTS, ""))
    for item in report.soundness.tests:
        group = "metamorphic" if isinstance(item, RelationResult) else "checks"
        status: Status = "pass" if item.passed else "fail"
        yield Case(group=group, name=item.name, status=status, message=item.detail)
    for name, detail in unchecked.items():
        yield Case(group="checks", name=name, status="skipped", message=detail)


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


def _agreement_case(report: ParityReport) -> Case:
    likeness = report.likeness
    least = report.judgement.limits.agreement_limit(report.accuracy.labelled_count)
    share = words.percent(likeness.agreement)
    message = f"{share} of {report.images.sample_count} images are answered as the teacher does"
    if least is None:
        return _case("agreement", "pass", f"{message}.")
    interval = words.percent_interval(likeness.agreement_interval)
    message = f"{message}, interval {interval}, where at least {words.percent(least)} are wanted."
    return _case("agreement", hold_share(likeness.agreement_interval, least), message)


def _classes_case(report: ParityReport) -> Case:
    """Return the case of all classes together; each that is dead or beyond the limit has one of its own too."""
    findings, shortfall = report.judgement.class_findings, report.class_shortfall
    if findings is None and not shortfall:
        return _case("classes", "skipped", "Not checked, because the record is of a version that judged no class.")
    if not findings:
        tested = report.classes.class_statistics.tested_count
        return _case("classes", report.verdict, f"The model {shortfall}.") if shortfall else _sound_classes(tested)
    status = worst_verdict(each.verdict for each in findings)
    return _case("classes", status, " ".join(each.detail for each in findings))


def _sound_classes(tested_count: int) -> Case:
    return _case("classes", "pass", f"None of the {tested_count} classes that were tested is dead.")


def _golden_case(numeric: Numeric, not_checked: str) -> Case:
    """Return the case of the recorded outputs; records of earlier versions do not say why they were not compared."""
    name, error, tolerance = GOLDEN_OUTPUTS, numeric.max_abs_error, numeric.tolerance
    if not_checked:
        return _case(name, "skipped", not_checked)
    if not numeric.image_count:
        return _case(name, "skipped", "No outputs were recorded to compare with.")
    if error is None:
        return _case(name, "fail", "The recorded inputs gave logits that are not finite, or of another shape.")
    if tolerance is None:
        return _case(name, "skipped", f"The largest error is {error:.3g}; this precision differs by design.")
    message = f"The largest error against the recorded outputs is {error:.3g}, the tolerance {tolerance:.3g}."
    return _case(name, "pass" if error <= tolerance else "fail", message)
