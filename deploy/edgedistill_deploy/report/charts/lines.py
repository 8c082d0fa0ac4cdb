"""Charts of lines: values by step, shares of runs by time, what is left when unsure answers are left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.report.charts.frame import (
    MARGINS,
    OF_CURVES,
    WIDTH,
    Axis,
    Format,
    Point,
    Series,
    draw_frame,
    draw_series,
    linear_axis,
    listed,
    write_text,
)
from edgedistill_deploy.report.charts.svg import Marked, colour, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def line_chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    levels: Sequence[tuple[float, str]] = (),
    height: int = 260,
) -> str:
    """Draw lines, marked points, and dashed horizontal levels with a label."""

    def paint(axes: "Axes", marked: Marked) -> None:
        draw_frame(axes, marked, x, y)
        for each in series:
            draw_series(axes, marked, each, x, y)
        for value, label in levels:
            down = y.place(value)
            axes.axhline(down, color=colour("ink"), linewidth=1, linestyle=(0, (5, 4)), gid=marked.name("level"))
            above = down < 0.9
            write_text(
                axes, marked, (0.01, down), label, up=4 if above else -4, va="bottom" if above else "top", css="strong"
            )

    margins = MARGINS if levels else OF_CURVES
    return drawn(title, listed([label for _, label in levels]), (WIDTH, height), paint, margins=margins)


def cumulative_points(samples: NDArray[np.float64], count: int = 160) -> list[Point]:
    """Return at most `count` + 1 points (value, share of samples up to it) of the empirical distribution."""
    ordered = np.sort(samples)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), count)).round().astype(int))
    return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPoint:
    """At a threshold: the share of images that are answered, and the accuracy on those."""

    answered: float
    accuracy: float


def reject_curve(title: str, curves: Sequence[tuple[str, int, Sequence[RejectPoint]]], write: Format) -> str:
    """Draw accuracy on the answered images against their share, one curve for each (name, colour from 0, points)."""
    series = [
        Series(name=name, points=[(each.answered, each.accuracy) for each in points], colour=index)
        for name, index, points in curves
    ]
    x = Axis(title="share of images answered", low=0, high=1, ticks=[(tick, write(tick)) for tick in _QUARTERS])
    y = linear_axis("accuracy on them", [up for each in series for _, up in each.points] or [1.0], write)
    return line_chart(title, series, x, y)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Images whose probabilities lie close together: their mean probability, their accuracy and their count."""

    probability: float
    accuracy: float
    count: int


_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
LEAST_DRAWN = 5  # images of a bin: the share of right ones among fewer leaps


def _worth_drawing(bins: Sequence[ReliabilityBin]) -> list[ReliabilityBin]:
    return [each for each in bins if each.count >= LEAST_DRAWN] or [each for each in bins if each.count]


def reliability(title: str, curves: Sequence[tuple[str, int, Sequence[ReliabilityBin]]], write: Format) -> str:
    """Draw accuracy against probability for each (name, colour from 0, bins); on the dashed diagonal both are equal.

    Bins of fewer than `LEAST_DRAWN` images are left out, unless all are so small.
    """
    series = [
        Series(
            name=name,
            points=(points := [(each.probability, each.accuracy) for each in _worth_drawing(bins)]),
            colour=index,
            marks=points,
        )
        for name, index, bins in curves
    ]
    ticks = [(tick, write(tick)) for tick in _QUARTERS]
    x, y = (Axis(title=text, low=0, high=1, ticks=ticks) for text in ("probability of the answer", "accuracy"))

    def paint(axes: "Axes", marked: Marked) -> None:
        draw_frame(axes, marked, x, y)
        axes.plot([0, 1], [0, 1], color=colour("soft"), linewidth=1, linestyle=(0, (5, 4)), gid=marked.name("level"))
        for each in series:
            draw_series(axes, marked, each, x, y)

    return drawn(title, listed([name for name, _, _ in curves]), (WIDTH, 300), paint, margins=OF_CURVES)
