"""The expert beside its rivals, as the manifest records them; what does not fit is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.wording import signed_points


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalRow:
    """One way to get a student: its accuracy, and how far SubDistill is above it, both with their intervals."""

    name: str
    learns_from: str
    accuracy: float
    interval: tuple[float, float]
    difference: str = ""
    difference_interval: str = ""
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalTable:
    """The expert's row first, then the rivals'; a sentence on whether it was worth it, and what that covers."""

    rows: tuple[RivalRow, ...]
    sentence: str
    covers: str
    measure: str = "accuracy"


def rival_table(manifest: Mapping[str, Any]) -> RivalTable | None:
    """Return the table of the manifest's rivals; None where there are none, or the record is damaged."""
    try:
        record = manifest["rivals"]
        expert = _row("SubDistill", "the teacher's subtask logits and its relevant subspaces", record["expert"])
        rivals = tuple(_rival(each) for each in record["rows"])
        measure = "agreement with the teacher" if record.get("judged_by") == "teacher" else "accuracy"
        sentence, covers = str(record["sentence"]), str(record["covers"])
        return RivalTable(rows=(expert, *rivals), sentence=sentence, covers=covers, measure=measure)
    except (KeyError, TypeError, ValueError):
        return None


def _rival(record: Mapping[str, Any]) -> RivalRow:
    found = record["difference"]
    low, high = (signed_points(_number(each)) for each in found["interval"])
    return _row(
        str(record["name"]),
        str(record["learns_from"]),
        record,
        difference=signed_points(_number(found["mean"])),
        difference_interval=f"{low} to {high}",
        verdict=str(found["verdict"]),
    )


def _row(name: str, learns_from: str, record: Mapping[str, Any], **compared: str) -> RivalRow:
    low, high = (_number(each) for each in record["interval"])
    accuracy = _number(record["accuracy"])
    return RivalRow(name=name, learns_from=learns_from, accuracy=accuracy, interval=(low, high), **compared)


def _number(value: Any) -> float:
    """Return a share or a difference of shares."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1 <= value <= 1:
        raise ValueError(f"{value!r} is no difference of shares")
    return float(value)
