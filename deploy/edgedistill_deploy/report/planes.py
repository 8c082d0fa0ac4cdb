"""Every measured model as a point: how often it is right, and how long it takes."""

from collections.abc import Sequence

from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS
from edgedistill_deploy.recommendation.summary import ArtefactSummary
from edgedistill_deploy.report.charts import PlanePoint


def plane_points(rows: Sequence[ArtefactSummary], choice: ArtefactSummary | None) -> list[PlanePoint]:
    """Return a point for each model of each place whose accuracy and time are known; there a time is above 0."""
    several = len({row.place for row in rows}) > 1
    return [
        PlanePoint(
            label=f"{row.label}, {_place(row)}" if several else row.label,
            accuracy=row.accuracy,
            interval=None if None in (low, high) else (low or 0.0, high or 0.0),
            p50_ms=row.p50_ms,
            file_bytes=row.file_bytes,
            colour=_colour(row.precision),
            chosen=row == choice,
        )
        for row in rows
        for low, high in [row.accuracy_interval]
        if row.accuracy is not None and row.p50_ms
    ]


def _place(row: ArtefactSummary) -> str:
    return " ".join(part for part in row.place if part and part not in ("cpu", "onnxruntime"))


def _colour(precision: str) -> int:
    return USUAL_PRECISIONS.index(precision) if precision in USUAL_PRECISIONS else len(USUAL_PRECISIONS)
