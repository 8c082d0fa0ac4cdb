"""The records by place: a device, a runtime and its provider. Of many places, only some are shown in full."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS
from edgedistill_deploy.recommendation.summary import ArtefactSummary
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import LatencyRecord, ParityRecord, Records

Placed = TypeVar("Placed", ParityRecord, LatencyRecord)

_MOST_CLASS_CELLS = 4000  # classes times models, in tables of all classes; a cell takes about 200 bytes
_MOST_DRAWN = 8  # places whose distributions of time are drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A device, a runtime and its provider, and the records from there; the teacher's are the first."""

    name: str
    rows: tuple[ArtefactSummary, ...]
    parity: tuple[ParityReport, ...]
    latency: tuple[LatencyRecord, ...]


def places_of(rows: Sequence[ArtefactSummary], records: Records) -> list[Place]:
    """Return the places in the order of the rows."""
    keys = dict.fromkeys(row.place for row in rows)
    return [
        Place(
            name=" · ".join(part for part in key if part and part != "cpu") or "not measured yet",
            rows=tuple(row for row in rows if row.place == key),
            parity=tuple(each.report for each in _records_at(key, records.parity)),
            latency=tuple(_records_at(key, records.latency)),
        )
        for key in keys
    ]


def _records_at(place: tuple[str | None, ...], records: Iterable[Placed]) -> list[Placed]:
    """Return the records of a place, the teacher's first."""
    found = [(each.report.model.precision, each) for each in records if each.report.model.place == place]
    return [each for _, each in sorted(found, key=lambda pair: (colour_of(pair[0]), pair[0]))]


def _in_order(places: Sequence[Place], report: ParityReport | None) -> list[Place]:
    """Return the places, that of the first screen's expert before the others."""
    key = report.model.place if report else None
    return sorted(places, key=lambda place: not place.rows or place.rows[0].place != key)


def with_whole_tables(places: Sequence[Place], report: ParityReport | None) -> frozenset[str]:
    """Return the names of the places whose classes are all listed, as far as a page can be sent."""
    names: set[str] = set()
    cells = 0
    for place in _in_order(places, report):
        cells += sum(len(each.classes.per_class) for each in place.parity)
        if cells <= _MOST_CLASS_CELLS or not names:
            names.add(place.name)
    return frozenset(names)


def with_drawings(places: Sequence[Place], report: ParityReport | None) -> frozenset[str]:
    """Return the names of the places whose distributions are drawn."""
    timed = [place for place in _in_order(places, report) if place.latency]
    return frozenset(place.name for place in timed[:_MOST_DRAWN])


def colour_of(precision: str) -> int:
    """Return a model's colour, which is the same in every chart."""
    return USUAL_PRECISIONS.index(precision) if precision in USUAL_PRECISIONS else len(USUAL_PRECISIONS)
