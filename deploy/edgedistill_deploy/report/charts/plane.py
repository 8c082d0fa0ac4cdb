"""The plane of accuracy against time, with labels that never cover each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgedistill_deploy.report.charts.frame import (
    BOTTOM,
    COLOURS,
    LEFT,
    MARGINS,
    RIGHT,
    SHAPES,
    TOP,
    WIDTH,
    Axis,
    Format,
    Point,
    draw_frame,
    linear_axis,
    listed,
    log_axis,
    write_text,
)
from edgedistill_deploy.report.charts.svg import TEXT, Marked, colour, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_MARK = 0.04  # of the height: a mark on the axis below


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanePoint:
    """A model on a device: its accuracy with its interval, its p50 and the size of its file; `colour` from 0."""

    label: str
    accuracy: float
    interval: tuple[float, float] | None
    p50_ms: float
    file_bytes: int | None
    colour: int
    chosen: bool = False


def accuracy_latency_plane(
    title: str,
    points: Sequence[PlanePoint],
    write: Format,
    *,
    measure: str = "accuracy",
    untrained: Sequence[tuple[str, float]] = (),
) -> str:
    """Draw accuracy, or another measure, against time (p50, ms, logarithmic); a ring marks the model that was chosen.

    The area of a dot grows with the size of the file. Labels that would cover another are left out; the table has them.
    `untrained` are (label, p50 in ms) of what has no accuracy yet: marks on the axis below. `write` writes a share.
    """
    ends = [end for each in points for end in (*(each.interval or ()), each.accuracy)]
    times = [*(each.p50_ms for each in points), *(ms for _, ms in untrained)]
    x = log_axis("time of one batch (p50), ms; logarithmic", times, lambda ms: f"{ms:g}")
    y = linear_axis(measure, ends, write)
    largest = max((each.file_bytes or 0 for each in points), default=0) or 1

    def paint(axes: "Axes", marked: Marked) -> None:
        draw_frame(axes, marked, x, y)
        for label, ms in untrained:
            right, gid = x.place(ms), marked.name("untrained", label)
            axes.plot([right, right], [0, _MARK], color=colour("ink"), linewidth=2, gid=gid)
        for each in points:
            _draw_plane_point(axes, marked, each, (x, y), math.sqrt((each.file_bytes or 0) / largest))
        inner = (WIDTH - LEFT - RIGHT, 300 - TOP - BOTTOM)
        for each, place in zip(points, _label_places(points, x, y, inner), strict=True):
            if place:
                write_text(axes, marked, place, each.label, va="center", css="strong")

    told = listed(
        [
            *(f"{each.label}: {write(each.accuracy)}, {each.p50_ms:.3g} ms" for each in points),
            *(f"{label}, not trained: {ms:.3g} ms" for label, ms in untrained),
        ]
    )
    return drawn(title, told, (WIDTH, 300), paint, margins=MARGINS)


def _draw_plane_point(axes: "Axes", marked: Marked, point: PlanePoint, of: tuple[Axis, Axis], size: float) -> None:
    (x, y), tint = of, colour(f"s{point.colour % COLOURS + 1}")
    right, up = x.place(point.p50_ms), y.place(point.accuracy)
    if point.interval:
        ends = [y.place(end) for end in point.interval]
        axes.plot([right, right], ends, color=tint, linewidth=1.5, gid=marked.name("interval"))
    if point.chosen:
        style: dict[str, Any] = {
            "linestyle": "",
            "marker": "o",
            "markersize": 20,
            "markerfacecolor": "none",
            "markeredgewidth": 1.5,
        }
        axes.plot([right], [up], color=colour("ink"), gid=marked.name("chosen"), **style)
    shape = SHAPES[point.colour % COLOURS]
    axes.plot(
        [right], [up], color=tint, linestyle="", marker=shape, markersize=6 + 7 * size, markeredgewidth=1,
        markeredgecolor=colour("card"), gid=marked.name("artefact", point.label),
    )  # fmt: skip


def _label_places(points: Sequence[PlanePoint], x: Axis, y: Axis, inner: tuple[int, int]) -> list[Point | None]:
    """Return where each label stands so that it covers no dot and no other label; None for nowhere.

    A place that covers no interval either comes first. A place is that of the middle of the label's left end, in
    shares of the axes; `inner` is their size in units.
    """
    width, height = inner
    places = [(x.place(each.p50_ms) * width, y.place(each.accuracy) * height) for each in points]
    taken = [(right - 9, up - 9, right + 9, up + 9) for right, up in places]
    lines = [
        (right - 1, y.place(each.interval[0]) * height, right + 1, y.place(each.interval[1]) * height)
        for each, (right, _) in zip(points, places, strict=True)
        if each.interval
    ]
    found: list[Point | None] = []
    for each, (right, up) in zip(points, places, strict=True):
        offered = _label_boxes(right, up, _BOLD * TEXT * len(each.label))
        inside = [box for box in offered if box[0] >= 0 and box[2] <= width]
        free = [box for box in inside if not any(_meet(box, other) for other in taken)]
        free.sort(key=lambda box: any(_meet(box, line) for line in lines))
        taken += free[:1]
        found.append((free[0][0] / width, (free[0][1] + 7) / height) if free else None)
    return found


_BOLD = 0.68  # of its size: the mean width of a bold letter
_Box = tuple[float, float, float, float]


def _label_boxes(right: float, up: float, width: float) -> list[_Box]:
    """Return where a label may stand around a dot, the best place first: left, bottom, right and top, in units."""
    before, around, after = right - 12 - width, right - width / 2, right + 12
    corners = ((after, up), (before, up), (around, up + 18), (around, up - 18), (after, up + 14), (before, up - 14))
    return [(left, middle - 7, left + width, middle + 7) for left, middle in corners]


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
