"""The report's charts, drawn by matplotlib as inline SVG. Colours are CSS classes, so the page chooses them.

Every series has a line or a mark of its own, so that a chart reads in black and white. A chart is 380 units wide, so
that its 12-unit text stays readable on a phone. Without matplotlib each chart is "", and `can_draw()` is False.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.files.names import printable
from edgedistill_deploy.report._svg import TEXT, Marked, can_draw, colour, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLOURS",
    "Axis",
    "Block",
    "Figure",
    "PlanePoint",
    "Point",
    "RejectPoint",
    "ReliabilityBin",
    "Series",
    "accuracy_latency_plane",
    "blocks",
    "can_draw",
    "cumulative_points",
    "histogram",
    "interval_chart",
    "line_chart",
    "linear_axis",
    "log_axis",
    "reject_curve",
    "reliability",
    "spectrum",
]

WIDTH = 380
COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 14, 24, 44
_MARGINS = (_LEFT, _RIGHT, _TOP, _BOTTOM)
_OF_CURVES = (58, 26, _TOP, _BOTTOM)  # room for "100.0 %" beside the axis and at its end
_ROW = 40
_BARS = 72  # units, of the highest bar of a histogram
# Lengths of dash and gap, in widths of the line, and marks; the page's legend repeats both.
_DASHES: tuple[Any, ...] = ("-", "-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1.5)))
_SHAPES = ("s", "o", "^", "D", "v", "P")
Point = tuple[float, float]
Format = Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart as escaped SVG text, a caption, and the names of its series with their colours from 1."""

    svg: str
    caption: str
    legend: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line of points (x, y) with its name; `colour` counts from 0 and wraps around."""

    name: str
    points: Sequence[Point]
    colour: int
    marks: Sequence[Point] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis: its title, its end values, its ticks with their labels, and whether it is logarithmic."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """Return the place of a value: 0 at `low`, 1 at `high`, clipped to that range."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))


def linear_axis(title: str, values: Sequence[float], write: Format, *, count: int = 5) -> Axis:
    """Return an axis that spans the values, with ticks at 1, 2 or 5 times a power of ten."""
    low, high = _spread(min(values), max(values))
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(index * step, write(index * step)) for index in range(first, last + 1)]
    return Axis(title=title, low=first * step, high=last * step, ticks=ticks)


def log_axis(title: str, values: Sequence[float], write: Format) -> Axis:
    """Return a logarithmic axis that spans the positive values, with ticks at 1, 2 and 5 times powers of ten."""
    low, high = min(values) / 1.05, max(values) * 1.05
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    all_ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    low = max(tick for tick in all_ticks if tick <= low)
    high = min((tick for tick in all_ticks if tick >= high), default=10.0 ** exponents[-1])
    inside = [tick for tick in all_ticks if low <= tick <= high]
    shown = inside if len(inside) <= 7 else [tick for tick in inside if _is_power_of_ten(tick)]
    return Axis(title=title, low=low, high=high, ticks=[(tick, write(tick)) for tick in shown], log=True)


def _spread(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high - low > 1e-12 * max(abs(low), abs(high), 1e-300) else (low - 0.5, high + 0.5)


def _nice_step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next((factor * power for factor in (1, 2, 5) if raw <= factor * power * (1 + 1e-9)), 10 * power)


def _is_power_of_ten(value: float) -> bool:
    return abs(math.log10(value) - round(math.log10(value))) < 1e-9


# --- lines


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
        _draw_frame(axes, marked, x, y)
        for each in series:
            _draw_series(axes, marked, each, x, y)
        for value, label in levels:
            down = y.place(value)
            axes.axhline(down, color=colour("ink"), linewidth=1, linestyle=(0, (5, 4)), gid=marked.name("level"))
            above = down < 0.9
            _write(
                axes, marked, (0.01, down), label, up=4 if above else -4, va="bottom" if above else "top", css="strong"
            )

    margins = _MARGINS if levels else _OF_CURVES
    return drawn(title, _listed([label for _, label in levels]), (WIDTH, height), paint, margins=margins)


def _draw_series(axes: "Axes", marked: Marked, series: Series, x: Axis, y: Axis) -> None:
    index, tint = series.colour % COLOURS, colour(f"s{series.colour % COLOURS + 1}")
    across, up = _placed(series.points, x, y)
    gid = marked.name(f"series{index + 1}", series.name)
    axes.plot(across, up, color=tint, linewidth=2, linestyle=_DASHES[index], gid=gid)
    across, up = _placed(series.marks, x, y)
    style: dict[str, Any] = {"linestyle": "", "marker": _SHAPES[index], "markersize": 8, "markeredgewidth": 0}
    axes.plot(across, up, color=tint, gid=marked.name(f"mark{index + 1}"), **style)


def _placed(points: Sequence[Point], x: Axis, y: Axis) -> tuple[list[float], list[float]]:
    return [x.place(across) for across, _ in points], [y.place(up) for _, up in points]


def cumulative_points(samples: NDArray[np.float64], count: int = 160) -> list[Point]:
    """Return at most `count` + 1 points (value, share of samples up to it) of the empirical distribution."""
    ordered = np.sort(samples)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), count)).round().astype(int))
    return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


# --- intervals


def interval_chart(
    title: str, rows: Sequence[tuple[str, float, float, float, str]], limit: float, write: Format, axis_title: str
) -> str:
    """Draw one row for each (label, estimate, low, high, verdict): a bar from low to high with its estimate.

    The side above the limit is shaded; zero and the limit are marked. The mark's shape says the verdict too.
    """
    ends = [value for row in rows for value in row[1:4]]
    x = linear_axis(axis_title, [0.0, limit * 1.25, *ends], write)
    inner = _ROW * len(rows) + 24

    def paint(axes: "Axes", marked: Marked) -> None:
        at_limit, at_zero = x.place(limit), x.place(0)
        axes.axvspan(at_limit, 1, color=colour("fail-back"), linewidth=0, gid=marked.name("beyond"))
        _draw_frame(axes, marked, x, Axis(title="", low=0, high=1, ticks=()))
        axes.axvline(at_zero, color=colour("soft"), linewidth=1, linestyle=(0, (2, 3)), gid=marked.name("zero"))
        axes.axvline(at_limit, color=colour("fail"), linewidth=1.5, gid=marked.name("limit"))
        _write(axes, marked, (at_limit, 0), f"limit {write(limit)}", right=5, up=5, va="bottom")
        for index, row in enumerate(rows):
            _draw_interval(axes, marked, 1 - (_ROW * index + 26) / inner, row, x)

    told = _listed([f"{label}, {write(low)} to {write(high)}, {verdict}" for label, _, low, high, verdict in rows])
    height = _TOP + inner + _BOTTOM
    return drawn(title, f"{told}; limit {write(limit)}", (WIDTH, height), paint, margins=_MARGINS)


_VERDICT_MARKS = {"pass": "o", "fail": "X", "inconclusive": "D"}


def _draw_interval(axes: "Axes", marked: Marked, up: float, row: tuple[str, float, float, float, str], x: Axis) -> None:
    label, estimate, low, high, verdict = row
    tint = colour(verdict if verdict in _VERDICT_MARKS else "soft")
    _write(axes, marked, (0.01, up), label, up=6, va="bottom", css="strong")
    ends = [x.place(low), x.place(high)]
    gid = marked.name("interval")
    axes.plot(ends, [up, up], color=tint, linewidth=2, marker="|", markersize=10, gid=gid)
    shape = _VERDICT_MARKS.get(verdict, "s")
    face = colour("card") if verdict == "inconclusive" else tint
    axes.plot(
        [x.place(estimate)], [up], color=tint, linestyle="", marker=shape, markersize=9, markerfacecolor=face,
        markeredgewidth=1.5, gid=marked.name("estimate"),
    )  # fmt: skip


# --- distributions


def histogram(
    title: str, samples: NDArray[np.float64], marks: Sequence[tuple[float, str]], write: Format, colour_index: int
) -> str:
    """Draw positive samples on a logarithmic axis, from their minimum to just beyond the last mark.

    The height of a bar is its count of samples, relative to the highest bar. Marks are vertical lines, each with its
    label on a line of its own above the bars. A note counts the samples beyond the axis.
    """
    bins, row = 48, TEXT + 4
    low = float(samples.min()) / 1.02
    high = 1.02 * max(float(samples.min()), *(value for value, _ in marks))
    counts, _ = np.histogram(samples, bins=np.geomspace(low, high, bins + 1))
    x = Axis(title=_slower(samples, high), low=low, high=high, ticks=[(low, write(low)), (high, write(high))], log=True)
    places = np.linspace(0, 1, bins + 1)

    def paint(axes: "Axes", marked: Marked) -> None:
        tint = colour(f"s{colour_index % COLOURS + 1}")
        shares = counts / max(1, counts.max())
        axes.stairs(shares, places, fill=True, color=tint, linewidth=0, gid=marked.name("bars"))
        _draw_frame(axes, marked, x, Axis(title="", low=0, high=1, ticks=()))
        for index, (value, label) in enumerate(marks):
            _draw_mark(axes, marked, x.place(value), label, (len(marks) - index - 1) * row + 4, index)

    top = 8 + row * len(marks)
    told = _listed([*(label for _, label in marks), x.title])
    return drawn(title, told, (WIDTH, top + _BARS + _BOTTOM), paint, margins=(_RIGHT, _RIGHT, top, _BOTTOM))


def _slower(samples: NDArray[np.float64], high: float) -> str:
    beyond = int((samples > high).sum())
    return f"{beyond:,} of {len(samples):,} runs were slower still" if beyond else f"{len(samples):,} runs"


def _draw_mark(axes: "Axes", marked: Marked, right: float, label: str, up: float, index: int) -> None:
    """Draw a vertical dashed line as far as its label, which stands `up` units above the bars and turns inwards."""
    dashes = ((5, 3), (2, 2))[index % 2]
    axes.plot(
        [right, right], [0, 1 + up / _BARS], color=colour("ink"), linewidth=1, linestyle=(0, dashes),
        gid=marked.name("level"),
    )  # fmt: skip
    inwards = right > 0.6
    _write(
        axes, marked, (right, 1), label, right=-4 if inwards else 4, up=up, ha="right" if inwards else "left",
        va="bottom", css="strong",
    )  # fmt: skip


def spectrum(title: str, values: NDArray[np.float64], kept: int) -> str:
    """Draw falling eigenvalues as a small bar chart, the kept ones in colour."""
    step = max(1, len(values) // 60)
    shown = np.clip(values[::step], 0, None)
    heights = shown / max(float(shown.max(initial=0.0)), 1e-300)
    edges = np.linspace(0, 1, len(shown) + 1)
    border = min(len(shown), -(-kept // step))

    def paint(axes: "Axes", marked: Marked) -> None:
        for part, tint in ((slice(0, border), "s2"), (slice(border, None), "line")):
            if len(heights[part]):
                edges_of_part = edges[part.start : (part.stop or len(shown)) + 1]
                axes.stairs(heights[part], edges_of_part, fill=True, color=colour(tint), linewidth=0, gid=marked.name())

    return drawn(title, "", (120, 28), paint, css="spark")


# --- parts of a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a run: where it starts and how wide it is, as shares of the whole; its row from the top; its texts."""

    label: str
    tip: str
    left: float
    width: float
    row: int
    colour: int | None


def blocks(title: str, parts: Sequence[Block]) -> str:
    """Draw parts as bars, row by row; a label that does not fit its bar is left to the tool tip."""
    width, row = 640, 26
    rows = 1 + max((each.row for each in parts), default=0)

    def paint(axes: "Axes", marked: Marked) -> None:
        from matplotlib.patches import Rectangle

        for each in parts:
            tint = colour("soft" if each.colour is None else f"s{each.colour % COLOURS + 1}")
            corner = (each.left, 1 - (each.row + 1) / rows)
            gid = marked.name("part", each.tip)
            axes.add_patch(
                Rectangle(corner, each.width, 1 / rows, facecolor=tint, edgecolor=colour("card"), linewidth=1, gid=gid)
            )
            label = _fitting(each.label, each.width * width - 8)
            if label:
                middle = (each.left, 1 - (each.row + 0.5) / rows)
                _write(axes, marked, middle, label, right=5, va="center", css="on", tint="card")

    return drawn(title, _listed([each.tip for each in parts[:12]]), (width, row * rows), paint, css="chart wide")


def _fitting(text: str, units: float) -> str:
    """Return as much of a text as fits, with "…" where it was cut; "" where not three letters do."""
    letters = int(units / (0.62 * TEXT))
    return text if len(text) <= letters else f"{text[: letters - 1]}…" if letters > 3 else ""


# --- accuracy against latency


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
    title: str, points: Sequence[PlanePoint], write: Format, *, measure: str = "accuracy"
) -> str:
    """Draw accuracy, or another measure, against time (p50, ms, logarithmic); a ring marks the model that was chosen.

    The area of a dot grows with the size of the file. Labels that would cover another are left out; the table has them.
    `write` writes a share.
    """
    ends = [end for each in points for end in (*(each.interval or ()), each.accuracy)]
    x = log_axis("time of one batch (p50), ms; logarithmic", [each.p50_ms for each in points], lambda ms: f"{ms:g}")
    y = linear_axis(measure, ends, write)
    largest = max((each.file_bytes or 0 for each in points), default=0) or 1

    def paint(axes: "Axes", marked: Marked) -> None:
        _draw_frame(axes, marked, x, y)
        for each in points:
            _draw_plane_point(axes, marked, each, (x, y), math.sqrt((each.file_bytes or 0) / largest))
        inner = (WIDTH - _LEFT - _RIGHT, 300 - _TOP - _BOTTOM)
        for each, place in zip(points, _label_places(points, x, y, inner), strict=True):
            if place:
                _write(axes, marked, place, each.label, va="center", css="strong")

    told = _listed([f"{each.label}: {write(each.accuracy)}, {each.p50_ms:.3g} ms" for each in points])
    return drawn(title, told, (WIDTH, 300), paint, margins=_MARGINS)


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
    shape = _SHAPES[point.colour % COLOURS]
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


# --- what to do with the unsure


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


def reliability(title: str, curves: Sequence[tuple[str, int, Sequence[ReliabilityBin]]], write: Format) -> str:
    """Draw accuracy against probability for each (name, colour from 0, bins); on the dashed diagonal both are equal."""
    series = [
        Series(
            name=name,
            points=(points := [(each.probability, each.accuracy) for each in bins if each.count]),
            colour=index,
            marks=points,
        )
        for name, index, bins in curves
    ]
    ticks = [(tick, write(tick)) for tick in _QUARTERS]
    x, y = (Axis(title=text, low=0, high=1, ticks=ticks) for text in ("probability of the answer", "accuracy"))

    def paint(axes: "Axes", marked: Marked) -> None:
        _draw_frame(axes, marked, x, y)
        axes.plot([0, 1], [0, 1], color=colour("soft"), linewidth=1, linestyle=(0, (5, 4)), gid=marked.name("level"))
        for each in series:
            _draw_series(axes, marked, each, x, y)

    return drawn(title, _listed([name for name, _, _ in curves]), (WIDTH, 300), paint, margins=_OF_CURVES)


# --- parts of every chart

_Side = Literal["left", "right", "center"]


def _draw_frame(axes: "Axes", marked: Marked, x: Axis, y: Axis) -> None:
    """Draw the axis below, a line for each tick beside it, the labels of both and their titles."""
    axes.plot([0, 1], [0, 0], color=colour("soft"), linewidth=1, gid=marked.name("axis"))
    for value, label in y.ticks:
        up = y.place(value)
        if up > 0:
            axes.plot([0, 1], [up, up], color=colour("line"), linewidth=1, zorder=0, gid=marked.name("grid"))
        _write(axes, marked, (0, up), label, right=-6, ha="right", va="center")
    at_ends = len(x.ticks) == 2 and [x.place(value) for value, _ in x.ticks] == [0.0, 1.0]
    for index, (value, label) in enumerate(x.ticks):
        side: _Side = "center" if not at_ends else "right" if index else "left"
        _write(axes, marked, (x.place(value), 0), label, up=-6, ha=side, va="top")
    _write(axes, marked, (0.5, 0), x.title, up=-24, ha="center", va="top", css="axis-title")
    _write(axes, marked, (0, 1), y.title, up=5, va="bottom", css="axis-title")


def _write(
    axes: "Axes",
    marked: Marked,
    place: Point,
    text: str,
    *,
    right: float = 0,
    up: float = 0,
    ha: _Side = "left",
    va: Literal["top", "bottom", "center"],
    css: str = "",
    tint: str = "",
) -> None:
    """Write a text at a place in the axes, so many units to its right and above it."""
    if text:
        axes.annotate(
            _one_line(text), place, (right, up), textcoords="offset points", ha=ha, va=va, fontsize=TEXT,
            color=colour(tint or ("ink" if css == "strong" else "soft")), gid=marked.name(css), annotation_clip=False,
        )  # fmt: skip


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _listed(texts: Sequence[str]) -> str:
    return "; ".join(text for text in texts if text)
