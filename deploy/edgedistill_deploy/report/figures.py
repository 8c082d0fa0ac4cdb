"""The charts of the answers: accuracy against time, what the probabilities are worth, and the reasons."""

from collections.abc import Sequence

from edgedistill_deploy import wording
from edgedistill_deploy.bundle.precisions import USUAL_PRECISIONS
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.report.charts.bars import EXPERT, interval_chart
from edgedistill_deploy.report.charts.frame import COLOURS, Figure, Series, linear_axis
from edgedistill_deploy.report.charts.lines import (
    LEAST_DRAWN,
    RejectPoint,
    ReliabilityBin,
    line_chart,
    reject_curve,
    reliability,
)
from edgedistill_deploy.report.charts.plane import PlanePoint, accuracy_latency_plane
from edgedistill_deploy.report.content import points
from edgedistill_deploy.report.content.beside import Beside
from edgedistill_deploy.report.content.places import colour_of
from edgedistill_deploy.report.content.reasons import Flipped, Reasons

_RIVAL = 5
_COLOURS = {label_of(precision): colour_of(precision) for precision in USUAL_PRECISIONS}
_LEAST_MS = 1e-6  # finer than any clock; a logarithm needs more than 0


def plane_figure(plane: points.Plane, beside: Beside) -> Figure | None:
    """Draw accuracy against time for all models, rivals and what stands beside them; None for fewer than two."""
    every = (*plane.points, *beside.points)
    several = len({each.device for each in every}) > 1
    drawn = [
        PlanePoint(
            label=f"{each.name}, {each.device}" if several and each.device else each.name,
            accuracy=each.share,
            interval=each.interval,
            p50_ms=each.p50_ms,
            file_bytes=each.file_bytes,
            colour=_RIVAL if each.kind in ("rival", "compared") else _COLOURS.get(each.name, len(_COLOURS)),
            chosen=each.is_chosen,
        )
        for each in every
        if each.p50_ms is not None and each.p50_ms > _LEAST_MS
    ]
    untrained = [
        (f"{each.row.label} {each.row.precision}, {each.device}", each.row.p50_ms)
        for each in beside.planned
        if each.row.p50_ms is not None and each.row.p50_ms > _LEAST_MS
    ]
    if not drawn or len(drawn) + len(untrained) < 2:
        return None
    title = f"{plane.measure.capitalize()} against time"
    return Figure(
        svg=accuracy_latency_plane(title, drawn, wording.percent, measure=plane.measure, untrained=untrained),
        caption="Further up is more often right, further left is faster; the bar is the interval, a larger mark is a "
        "larger file. The ring marks the recommended model."
        + (" The short marks on the axis are planned students, which are not trained." if untrained else ""),
    )


def reject_figure(series: Sequence[points.RejectSeries]) -> Figure:
    """Draw how often the kept answers are right against how many are kept, a curve for each model."""
    curves = [
        (each.name, colour_of(each.precision), [RejectPoint(answered=a, accuracy=b) for a, b, _ in each.points])
        for each in series
    ]
    return Figure(
        svg=reject_curve("Right answers by the share of images answered", curves, wording.percent),
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
    caption = "On the dashed line a model is right as often as it says. Below it is too sure, above it too modest."
    if any(0 < each.count < LEAST_DRAWN for _, _, bins in curves for each in bins):
        caption += f" Groups of fewer than {LEAST_DRAWN} images are not drawn, unless all are so small."
    return Figure(
        svg=reliability("Right answers by probability", curves, wording.percent),
        caption=caption,
        legend=_legend(series),
    )


def agreement_figure(reasons: Reasons) -> Figure:
    """Draw the cosine of each row with its interval; what the expert is held against has hollow marks."""
    rows = [
        (
            f"{each.name}: {_decimal(each.agreement.cosine.mean)}",
            each.agreement.cosine.mean,
            *each.agreement.cosine.interval,
            EXPERT if each.is_expert else "to compare",
        )
        for each in reasons.rows
    ]
    axis_title = "cosine of the maps; 1 is the same"
    return Figure(
        svg=interval_chart("Agreement of reasons beside its floors", rows, None, _decimal, axis_title),
        caption="Dot and bar: the mean over the images and its interval. The expert’s tells something only where it is "
        "beyond the floors.",
    )


def flipping_figure(flipped: Flipped) -> Figure:
    """Draw what is left of a network's evidence against the share of patches taken out, a curve for each order."""
    curves, shares = flipped.curves, flipped.shares
    orders = (("teacher’s map", curves.teacher_order), ("expert’s map", curves.student_order))
    series = [
        Series(name=name, points=list(zip(shares, values, strict=True)), colour=index)
        for index, (name, values) in zip((0, 1, _RIVAL), (*orders, ("at random", curves.random_order)), strict=True)
    ]
    x = linear_axis("share of patches taken out", shares, lambda share: f"{100 * share:.0f} %", count=4)
    y = linear_axis("evidence left", [0.0, *(value for each in series for _, value in each.points)], _decimal)
    return Figure(
        svg=line_chart(f"Evidence of the {flipped.network} by patches taken out", series, x, y),
        caption=f"The evidence of the {flipped.network}, as a part of what it has for the whole image.",
        legend=tuple((each.name, each.colour % COLOURS + 1) for each in series),
    )


def _decimal(value: float) -> str:
    return f"{value:.2f}"


def _legend(series: Sequence[points.RejectSeries] | Sequence[points.ReliabilitySeries]) -> tuple[tuple[str, int], ...]:
    return tuple((each.name, colour_of(each.precision) % COLOURS + 1) for each in series)
