"""The charts of the answers: accuracy against time, and what the probabilities are worth."""

from collections.abc import Sequence

from edgedistill_deploy import wording
from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.report import charts
from edgedistill_deploy.report.charts import Figure, PlanePoint, RejectPoint, ReliabilityBin
from edgedistill_deploy.report.content import points
from edgedistill_deploy.report.content.places import colour_of

_RIVAL = 5
_COLOURS = {label_of(precision): colour_of(precision) for precision in USUAL_PRECISIONS}
_LEAST_MS = 1e-6  # finer than any clock; a logarithm needs more than 0


def plane_figure(plane: points.Plane) -> Figure | None:
    """Draw accuracy against time for all models and rivals; None if fewer than two were timed."""
    several = len({each.device for each in plane.points}) > 1
    drawn = [
        PlanePoint(
            label=f"{each.name}, {each.device}" if several and each.device else each.name,
            accuracy=each.share,
            interval=each.interval,
            p50_ms=each.p50_ms,
            file_bytes=each.file_bytes,
            colour=_RIVAL if each.kind == "rival" else _COLOURS.get(each.name, len(_COLOURS)),
            chosen=each.is_chosen,
        )
        for each in plane.points
        if each.p50_ms is not None and each.p50_ms > _LEAST_MS
    ]
    if len(drawn) < 2:
        return None
    title = f"{plane.measure.capitalize()} against time"
    return Figure(
        svg=charts.accuracy_latency_plane(title, drawn, wording.percent, measure=plane.measure),
        caption="Further up is more often right, further left is faster; the bar is the interval, a larger mark is a "
        "larger file. The ring marks the recommended model.",
    )


def reject_figure(series: Sequence[points.RejectSeries]) -> Figure:
    """Draw how often the kept answers are right against how many are kept, a curve for each model."""
    curves = [
        (each.name, colour_of(each.precision), [RejectPoint(answered=a, accuracy=b) for a, b, _ in each.points])
        for each in series
    ]
    return Figure(
        svg=charts.reject_curve("Right answers by the share of images answered", curves, wording.percent),
        caption="From right to left, more unsure answers are left out. Where probabilities are useful, the curve "
        "rises.",
        legend=_legend(series),
    )


def reliability_figure(series: Sequence[points.ReliabilitySeries]) -> Figure:
    """Draw how often answers are right against how sure the model is, a curve for each model."""
    curves = [
        (
            each.name,
            colour_of(each.precision),
            [ReliabilityBin(probability=a, accuracy=b, count=count) for a, b, count in each.points],
        )
        for each in series
    ]
    return Figure(
        svg=charts.reliability("Right answers by probability", curves, wording.percent),
        caption="On the dashed line a model is right as often as it says. Below it is too sure, above it too modest.",
        legend=_legend(series),
    )


def _legend(series: Sequence[points.RejectSeries] | Sequence[points.ReliabilitySeries]) -> tuple[tuple[str, int], ...]:
    return tuple((each.name, colour_of(each.precision) % charts.COLOURS + 1) for each in series)
