"""The parts of every chart: axes, lines, texts, and the figure that a page gets.

Every series has a line or a mark of its own, so that a chart reads in black and white. A chart is 380 units wide, so
that its 12-unit text stays readable on a phone. Colours are CSS classes, so the page chooses them. Without matplotlib
each chart is "", and `svg.can_draw()` is False.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgedistill_deploy.files.names import printable
from edgedistill_deploy.report.charts.svg import TEXT, Marked, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 380
COLOURS = 6
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 24, 44
MARGINS = (LEFT, RIGHT, TOP, BOTTOM)
OF_CURVES = (58, 26, TOP, BOTTOM)  # room for "100.0 %" beside the axis and at its end
# Lengths of dash and gap, in widths of the line, and marks; the page's legend repeats both.
_DASHES: tuple[Any, ...] = ("-", "-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (2.5, 1.5)))
SHAPES = ("s", "o", "^", "D", "v", "P")
Point = tuple[float, float]
Format = Callable[[float], str]
Side = Literal["left", "right", "center"]


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


def draw_series(axes: "Axes", marked: Marked, series: Series, x: Axis, y: Axis) -> None:
    """Draw a line through its points, and its marks."""
    index, tint = series.colour % COLOURS, colour(f"s{series.colour % COLOURS + 1}")
    across, up = _placed(series.points, x, y)
    gid = marked.name(f"series{index + 1}", series.name)
    axes.plot(across, up, color=tint, linewidth=2, linestyle=_DASHES[index], gid=gid)
    across, up = _placed(series.marks, x, y)
    style: dict[str, Any] = {"linestyle": "", "marker": SHAPES[index], "markersize": 8, "markeredgewidth": 0}
    axes.plot(across, up, color=tint, gid=marked.name(f"mark{index + 1}"), **style)


def _placed(points: Sequence[Point], x: Axis, y: Axis) -> tuple[list[float], list[float]]:
    return [x.place(across) for across, _ in points], [y.place(up) for _, up in points]


def draw_frame(axes: "Axes", marked: Marked, x: Axis, y: Axis) -> None:
    """Draw the axis below, a line for each tick beside it, the labels of both and their titles."""
    axes.plot([0, 1], [0, 0], color=colour("soft"), linewidth=1, gid=marked.name("axis"))
    for value, label in y.ticks:
        up = y.place(value)
        if up > 0:
            axes.plot([0, 1], [up, up], color=colour("line"), linewidth=1, zorder=0, gid=marked.name("grid"))
        write_text(axes, marked, (0, up), label, right=-6, ha="right", va="center")
    at_ends = len(x.ticks) == 2 and [x.place(value) for value, _ in x.ticks] == [0.0, 1.0]
    for index, (value, label) in enumerate(x.ticks):
        side: Side = "center" if not at_ends else "right" if index else "left"
        write_text(axes, marked, (x.place(value), 0), label, up=-6, ha=side, va="top")
    write_text(axes, marked, (0.5, 0), x.title, up=-24, ha="center", va="top", css="axis-title")
    write_text(axes, marked, (0, 1), y.title, up=5, va="bottom", css="axis-title")


def write_text(
    axes: "Axes",
    marked: Marked,
    place: Point,
    text: str,
    *,
    right: float = 0,
    up: float = 0,
    ha: Side = "left",
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


def listed(texts: Sequence[str]) -> str:
    """Return what a reader hears of several texts."""
    return "; ".join(text for text in texts if text)
