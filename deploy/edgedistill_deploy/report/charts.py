"""Charts as inline SVG text. Colours are CSS classes, so the page chooses them.

All text is escaped here. A chart is 440 units wide, so that its 11-unit text stays readable on a phone.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH = 440
COLOURS = 6
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 12, 40
_ROW = 38
Point = tuple[float, float]
Format = Callable[[float], str]


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


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle inside the axes, and the places of values in it."""

    x: Axis
    y: Axis
    height: int

    def right(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * self.x.place(value)

    def down(self, value: float) -> float:
        return self.height - _BOTTOM - (self.height - _BOTTOM - _TOP) * self.y.place(value)


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


def line_chart(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    *,
    levels: Sequence[tuple[float, str]] = (),
    height: int = 250,
) -> str:
    """Draw lines, marked points, and dashed horizontal levels with a label."""
    frame = _Frame(x, y, height)
    body = [*_grid(frame)]
    for value, label in levels:
        down = frame.down(value)
        body.append(_across("level", down))
        body.append(_label(_LEFT + 4, down - 5 if down > _TOP + 14 else down + 13, label, "start", "strong"))
    for each in series:
        body.append(_polyline(frame, each))
        body += [_dot(frame, mark, each) for mark in each.marks]
    return _svg(title, height, body)


def interval_chart(
    title: str, rows: Sequence[tuple[str, float, float, float, str]], limit: float, write: Format, axis_title: str
) -> str:
    """Draw one row for each (label, estimate, low, high, CSS class): a bar from low to high with its estimate.

    The side above the limit is shaded; zero and the limit are marked.
    """
    height = _TOP + _ROW * len(rows) + 10 + _BOTTOM
    ends = [value for row in rows for value in row[1:4]]
    x = linear_axis(axis_title, [0.0, limit * 1.25, *ends], write)
    frame = _Frame(x, Axis(title="", low=0, high=1, ticks=()), height)
    at_limit, bottom = frame.right(limit), height - _BOTTOM
    body = [
        _rectangle("beyond", at_limit, _TOP, WIDTH - _RIGHT - at_limit, bottom - _TOP),
        *_grid(frame),
        _line("zero", (frame.right(0), frame.right(0)), (_TOP, bottom)),
        _line("limit", (at_limit, at_limit), (_TOP, bottom)),
        _label(at_limit + 5, bottom - 6, f"limit {write(limit)}", "start", ""),
    ]
    for index, (label, estimate, low, high, css) in enumerate(rows):
        body += _interval(frame, _TOP + 30 + _ROW * index, label, (low, estimate, high), css)
    return _svg(title, height, body)


def _interval(frame: _Frame, down: float, label: str, values: tuple[float, float, float], css: str) -> list[str]:
    low, estimate, high = (frame.right(value) for value in values)
    return [
        _label(_LEFT + 4, down - 8, label, "start", "strong"),
        _line(f"interval {css}", (low, high), (down, down)),
        *(_line(f"interval {css}", (end, end), (down - 5, down + 5)) for end in (low, high)),
        f'<circle class="estimate {escape(css)}" cx="{_n(estimate)}" cy="{_n(down)}" r="4.5"/>',
    ]


def histogram(
    title: str, samples: NDArray[np.float64], marks: Sequence[tuple[float, str]], write: Format, colour: int
) -> str:
    """Draw positive samples on a logarithmic axis, from their minimum to just beyond the last mark.

    The height of a bar is its count of samples, relative to the highest bar. Marks are vertical lines. A note counts
    the samples beyond the axis.
    """
    height, bins = 150, 48
    low = float(samples.min()) / 1.02
    high = 1.02 * max(float(samples.min()), *(value for value, _ in marks))
    counts, edges = np.histogram(samples, bins=np.geomspace(low, high, bins + 1))
    x = Axis(title="", low=low, high=high, ticks=[(low, write(low)), (high, write(high))], log=True)
    # Bars use 85 % of the height, because the labels of the marks lie above.
    frame = _Frame(x, Axis(title="", low=0, high=float(max(1, counts.max())) / 0.85, ticks=()), height)
    bars = [_bar(frame, edges[i], edges[i + 1], float(count), colour) for i, count in enumerate(counts) if count]
    drawn = [part for value, label in marks for part in _mark(frame, value, label)]
    beyond = int((samples > high).sum())
    note = f"{beyond:,} of {len(samples):,} runs were slower still" if beyond else f"{len(samples):,} runs"
    return _svg(
        title, height, [*bars, *_grid(frame, ends=True), *drawn, _label(WIDTH / 2, height - 8, note, "middle", "")]
    )


def _mark(frame: _Frame, value: float, label: str) -> list[str]:
    """Draw a vertical dashed line with its label above, which turns inwards near the right end."""
    right, anchor = frame.right(value), "end" if frame.x.place(value) > 0.8 else "start"
    return [
        _line("level", (right, right), (_TOP + 4, frame.height - _BOTTOM)),
        _label(right, _TOP, label, anchor, "strong"),
    ]


def spectrum(title: str, values: NDArray[np.float64], kept: int) -> str:
    """Draw falling eigenvalues as a small bar chart, the kept ones in colour."""
    width, height, step = 120, 28, max(1, len(values) // 60)
    shown = np.clip(values[::step], 0, None)
    top, bar = float(max(shown.max(initial=0.0), 1e-300)), width / max(1, len(shown))
    body = [
        _rectangle(
            "s1" if index * step < kept else "rest",
            index * bar,
            height * (1 - value / top),
            0.8 * bar,
            height * value / top,
        )
        for index, value in enumerate(shown)
    ]
    return _svg(title, height, body, width, "spark")


def cumulative_points(samples: NDArray[np.float64], count: int = 160) -> list[Point]:
    """Return at most `count` + 1 points (value, share of samples up to it) of the empirical distribution."""
    ordered = np.sort(samples)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), count)).round().astype(int))
    return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


def _grid(frame: _Frame, *, ends: bool = False) -> list[str]:
    bottom = frame.height - _BOTTOM
    lines = [_across("axis", bottom)]
    for value, label in frame.y.ticks:
        down = frame.down(value)
        lines += [_across("grid", down), _label(_LEFT - 6, down + 4, label, "end", "")]
    for index, (value, label) in enumerate(frame.x.ticks):
        anchor = ("start", "end")[index] if ends else "middle"
        lines.append(_label(frame.right(value), bottom + 16, label, anchor, ""))
    lines.append(_label((_LEFT + WIDTH - _RIGHT) / 2, frame.height - 6, frame.x.title, "middle", "axis-title"))
    lines.append(_label(_LEFT + 4, _TOP + 2, frame.y.title, "start", "axis-title"))
    return lines


def _polyline(frame: _Frame, series: Series) -> str:
    points = " ".join(f"{_n(frame.right(x))},{_n(frame.down(y))}" for x, y in series.points)
    return (
        f'<polyline class="line s{series.colour % COLOURS + 1}" '
        f'points="{points}"><title>{escape(series.name)}</title></polyline>'
    )


def _dot(frame: _Frame, point: Point, series: Series) -> str:
    right, down = frame.right(point[0]), frame.down(point[1])
    return f'<circle class="dot s{series.colour % COLOURS + 1}" cx="{_n(right)}" cy="{_n(down)}" r="4"/>'


def _bar(frame: _Frame, left: float, right: float, value: float, colour: int) -> str:
    start, end, top = frame.right(left), frame.right(right), frame.down(value)
    width = max(0.5, end - start - 0.6)
    return _rectangle(f"bar s{colour % COLOURS + 1}", start, top, width, frame.height - _BOTTOM - top)


def _rectangle(css: str, left: float, top: float, width: float, height: float) -> str:
    return f'<rect class="{css}" x="{_n(left)}" y="{_n(top)}" width="{_n(width)}" height="{_n(height)}"/>'


def _line(css: str, x: Point, y: Point) -> str:
    return f'<line class="{escape(css)}" x1="{_n(x[0])}" x2="{_n(x[1])}" y1="{_n(y[0])}" y2="{_n(y[1])}"/>'


def _across(css: str, down: float) -> str:
    return _line(css, (_LEFT, WIDTH - _RIGHT), (down, down))


def _label(right: float, down: float, text: str, anchor: str, css: str) -> str:
    if not text:
        return ""
    return f'<text class="{css}" x="{_n(right)}" y="{_n(down)}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: int, body: Sequence[str], width: int = WIDTH, css: str = "chart") -> str:
    return (
        f'<svg class="{css}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
