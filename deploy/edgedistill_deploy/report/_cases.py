"""A parity record as a list of cases that hold or do not, for reports made for machines and their maintainers.

Read generically: every list in a record whose items have `name` and `passed` becomes cases, so that checks added later are
reported too.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.statistics.paired import non_inferiority

Status = Literal["pass", "fail", "inconclusive", "skipped", "error"]
Record = Mapping[str, Any]
BASELINE = "teacher"
# What XML 1.0 has no way to write, escaped or not; UTF-8 has none for half a surrogate pair either.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that was judged: its `group` in the record, its name, how it came out, and a sentence or two about it."""

    group: str
    name: str
    status: Status
    message: str


def is_judged(record: Record, records: Sequence[Record]) -> bool:
    """Say whether a record counts for the gate: the teacher's own file is the baseline unless it is alone."""
    return len(records) == 1 or record.get("precision") != BASELINE


def cases_of(record: Record) -> tuple[Case, ...]:
    """Return the cases of a parity record; a single one of status "error" when it is not one that can be read."""
    try:
        return tuple(_cases(record))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it has no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        return (
            Case(
                group="parity", name="record", status="error", message=f"The record cannot be read: {what}."
            ),
        )


def _cases(record: Record) -> Iterator[Case]:
    verdict = record["verdict"]
    if verdict not in ("pass", "fail", "inconclusive"):
        raise ValueError(f"the verdict is {verdict!r}")
    reasons = " ".join(str(reason) for reason in record.get("reasons") or ())
    yield Case(
        group="parity", name="verdict", status=verdict, message=reasons or f"The verdict is {verdict}."
    )
    yield _drop_case(record["accuracy"], record["limits"])
    yield _agreement_case(record)
    yield _golden_case(record["numeric"])
    for group, items in record.items():
        if isinstance(items, list):
            yield from _listed(group, items)


def _drop_case(accuracy: Record, limits: Record) -> Case:
    limit = float(limits["max_drop"])
    if not accuracy["labelled_count"]:
        message = "No label is known, so the drop in accuracy cannot be measured."
        return Case(group="parity", name="accuracy_drop", status="skipped", message=message)
    low, high = (float(end) for end in accuracy["interval"])
    message = (
        f"The drop is {words.points(accuracy['drop'])}, its interval {words.points_interval((low, high))}, the limit "
        f"{words.points(limit)}: {words.percent(accuracy['candidate'])} right where the teacher is "
        f"{words.percent(accuracy['teacher'])}, on {accuracy['labelled_count']} images."
    )
    return Case(
        group="parity", name="accuracy_drop", status=non_inferiority((low, high), limit), message=message
    )


def _agreement_case(record: Record) -> Case:
    """Report the agreement, which has no limit of its own."""
    share = words.percent(float(record["agreement"]))
    message = f"{share} of {record['sample_count']} images are answered as the teacher does."
    return Case(group="parity", name="agreement", status="pass", message=message)


def _golden_case(numeric: Record) -> Case:
    error, tolerance = numeric.get("max_abs_error"), numeric.get("tolerance")
    status: Status = "pass"
    if not numeric.get("image_count", 1):
        status, message = "skipped", "No outputs were recorded to compare with."
    elif error is None:
        status, message = "fail", "The recorded inputs gave logits that are not finite, or of another shape."
    elif tolerance is None:
        status, message = "skipped", f"The largest error is {error:.3g}; this precision differs by design."
    else:
        status = "pass" if error <= tolerance else "fail"
        message = (
            f"The largest error against the recorded outputs is {error:.3g}, the tolerance {tolerance:.3g}."
        )
    return Case(group="parity", name="golden_outputs", status=status, message=message)


def _listed(group: str, items: Sequence[Any]) -> Iterator[Case]:
    for item in items:
        if isinstance(item, Mapping) and "name" in item and isinstance(item.get("passed"), bool):
            status: Status = "pass" if item["passed"] else "fail"
            yield Case(
                group=group, name=str(item["name"]), status=status, message=str(item.get("detail", ""))
            )


def without_controls(text: str) -> str:
    """Drop the characters that XML and UTF-8 cannot carry."""
    return _FORBIDDEN.sub("", text)
