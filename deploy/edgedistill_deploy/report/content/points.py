"""What the charts of the answers show, as points: the plane of accuracy against cost, and two curves.

A point is a plain tuple of numbers, so a chart needs to know nothing of records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy.recommendation.summary import ArtefactSummary, label_of
from edgedistill_deploy.records.answers import AnswersReport, ProbabilityFigures
from edgedistill_deploy.report.rivals import RivalTable

Kind = Literal["teacher", "expert", "rival", "compared"]
Share = float

_LEAST_ANSWERED = 0.3  # in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanePoint:
    """One model on one device, or a rival.

    `share` is the accuracy, or the agreement where no image has a label (`Plane.measure`). `p50_ms` is of a run of
    `batch_size` images. A rival is the same student trained in another way, so it takes what the fp32 expert takes. So
    does a compared method, unless a plan has timed its student.
    """

    name: str
    kind: Kind
    device: str
    share: Share
    interval: tuple[Share, Share] | None
    p50_ms: float | None
    batch_size: int | None
    file_bytes: int | None
    is_chosen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """The points of accuracy against latency and against size; `measure` is what `share` is."""

    measure: Literal["accuracy", "agreement with the teacher"]
    points: tuple[PlanePoint, ...]

    @property
    def by_latency(self) -> tuple[tuple[float, Share], ...]:
        """The points (p50 in ms, share) that were timed."""
        return tuple((each.p50_ms, each.share) for each in self.points if each.p50_ms is not None)

    @property
    def by_size(self) -> tuple[tuple[int, Share], ...]:
        """The points (bytes, share) whose file is known, once for each model."""
        return tuple(dict.fromkeys((each.file_bytes, each.share) for each in self.points if each.file_bytes))


def plane_of(
    rows: Sequence[ArtefactSummary], choice: ArtefactSummary | None, rivals: RivalTable | None
) -> Plane | None:
    """Return the plane of all models, devices and rivals; None if that of no expert is known."""
    labelled = any(row.accuracy is not None for row in rows)
    points = [_point(row, labelled, row == choice) for row in rows]
    found = [each for each in points if each is not None]
    if all(each.kind == "teacher" for each in found):
        return None
    measure: Literal["accuracy", "agreement with the teacher"] = (
        "accuracy" if labelled else "agreement with the teacher"
    )
    same = rivals is not None and (rivals.measure == measure)
    return Plane(measure=measure, points=(*found, *(_rivals(rivals, rows) if rivals and same else ())))


def _point(row: ArtefactSummary, labelled: bool, is_chosen: bool) -> PlanePoint | None:
    share = row.accuracy if labelled else 1.0 if row.is_teacher else row.agreement
    if share is None:
        return None
    low, high = row.accuracy_interval if labelled else (None, None)
    return PlanePoint(
        name=row.label,
        kind="teacher" if row.is_teacher else "expert",
        device=row.device or "",
        share=share,
        interval=None if low is None or high is None else (low, high),
        p50_ms=row.p50_ms,
        batch_size=row.batch_size,
        file_bytes=row.file_bytes,
        is_chosen=is_chosen,
    )


def _rivals(rivals: RivalTable, rows: Sequence[ArtefactSummary]) -> list[PlanePoint]:
    same = next((row for row in rows if row.precision == "fp32" and row.p50_ms is not None), None)
    same = same or next((row for row in rows if row.precision == "fp32"), None)
    return [
        PlanePoint(
            name=row.name,
            kind="rival",
            device=(same.device or "") if same else "",
            share=row.accuracy,
            interval=row.interval,
            p50_ms=same.p50_ms if same else None,
            batch_size=same.batch_size if same else None,
            file_bytes=same.file_bytes if same else None,
        )
        for row in rivals.rows[1:]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectSeries:
    """One model's reject curve: points (answered share, accuracy of these answers, threshold), all answered first."""

    name: str
    precision: str
    points: tuple[tuple[Share, Share, float], ...]

    @property
    def rows(self) -> tuple[tuple[Share, Share, float], ...]:
        """The points for a table: about every tenth of the images, as long as many are answered."""
        return tuple(point for point in self.points[::2] if point[0] >= _LEAST_ANSWERED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilitySeries:
    """One model's reliability: points (mean probability, accuracy, images) of the bins that hold images."""

    name: str
    precision: str
    points: tuple[tuple[Share, Share, int], ...]


def reject_series(reports: Sequence[AnswersReport]) -> tuple[RejectSeries, ...]:
    """Return the curves of the teacher, where labels tell its accuracy, and of each expert."""
    return tuple(
        RejectSeries(
            name=label_of(precision),
            precision=precision,
            points=tuple((each.answered, each.accuracy, each.threshold) for each in figures.reject),
        )
        for precision, figures in _figures(reports)
        if figures.reject
    )


def reliability_series(reports: Sequence[AnswersReport]) -> tuple[ReliabilitySeries, ...]:
    """Return the reliability of the teacher, where labels tell its accuracy, and of each expert."""
    return tuple(
        ReliabilitySeries(
            name=label_of(precision),
            precision=precision,
            points=tuple((each.confidence, each.accuracy, each.count) for each in figures.reliability),
        )
        for precision, figures in _figures(reports)
        if figures.reliability
    )


def _figures(reports: Sequence[AnswersReport]) -> list[tuple[str, ProbabilityFigures]]:
    judged = [each for each in reports if each.truth == "label"]
    return [
        *[("teacher", each.teacher) for each in judged[:1]],
        *[(each.model.precision, each.candidate) for each in reports],
    ]
