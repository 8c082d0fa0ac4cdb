"""Charts as inline SVG text, from numbers alone: pure functions, no scripts, colours by CSS class so that the page
decides.

All text is escaped here. A chart is drawn 440 units wide, so that its 11-unit text stays readable on a phone.
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
    """What an axis shows: its title, its end values, its ticks with their labels, and whether it is logarithmic."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at `low`, 1 at `high`, clipped to that range."""
        if self.log:
            low, high, value = math.log(self.low), math.log(self.high), math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True, slots=True)
class _Frame:
    """The rectangle inside the axes, and where values fall in it."""

    x: Axis
    y: Axis
    height: int

    def right(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * self.x.place(value)

    def down(self, value: float) -> float:
        return self.height - _BOTTOM - (self.height - _BOTTOM - _TOP) * self.y.place(value)


def linear_axis(title: str, values: Sequence[float], write: Format, *, count: int = 5) -> Axis:
    """Return an axis that spans some values, with ticks at 1, 2 or 5 times a power of ten."""
    low, high = _spread(min(values), max(values))
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [(index * step, write(index * step)) for index in range(first, last + 1)]
    return Axis(title=title, low=first * step, high=last * step, ticks=ticks)


def log_axis(title: str, values: Sequence[float], write: Format) -> Axis:
    """Return a logarithmic axis that spans some positive values, with ticks at 1, 2 and 5 times powers of ten."""
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
        body.append(f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_n(down)}" y2="{_n(down)}"/>')
        body.append(_label(_LEFT + 4, down - 5 if down > _TOP + 14 else down + 13, label, "start", "strong"))
    for each in series:
        body.append(_polyline(frame, each))
        body += [_dot(frame, mark, each) for mark in each.marks]
    return _svg(title, height, body)


def interval_chart(
    title: str, rows: Sequence[tuple[str, float, float, float, str]], limit: float, write: Format, axis_title: str
) -> str:
    """Draw one row per (label, estimate, low, high, CSS class): a bar from low to high with its estimate, against a
    limit.

    The side above the limit is shaded; zero and the limit are marked.
    """
    height = _TOP + _ROW * len(rows) + 10 + _BOTTOM
    ends = [value for row in rows for value in row[1:4]]
    x = linear_axis(axis_title, [0.0, limit * 1.25, *ends], write)
    frame = _Frame(x, Axis(title="", low=0, high=1, ticks=()), height)
    at_limit, bottom = frame.right(limit), height - _BOTTOM
    body = [
        (
            f'<rect class="beyond" x="{_n(at_limit)}" y="{_TOP}" width="{_n(WIDTH - _RIGHT - at_limit)}" '
            f'height="{bottom - _TOP}"/>'
        ),
        *_grid(frame),
        f'<line class="zero" x1="{_n(frame.right(0))}" x2="{_n(frame.right(0))}" y1="{_TOP}" y2="{bottom}"/>',
        f'<line class="limit" x1="{_n(at_limit)}" x2="{_n(at_limit)}" y1="{_TOP}" y2="{bottom}"/>',
        _label(at_limit + 5, bottom - 6, f"limit {write(limit)}", "start", ""),
    ]
    for index, (label, estimate, low, high, css) in enumerate(rows):
        body += _interval(frame, _TOP + 30 + _ROW * index, label, (low, estimate, high), css)
    return _svg(title, height, body)


def _interval(frame: _Frame, down: float, label: str, values: tuple[float, float, float], css: str) -> list[str]:
    low, estimate, high = (frame.right(value) for value in values)
    return [
        _label(_LEFT + 4, down - 8, label, "start", "strong"),
        f'<line class="interval {escape(css)}" x1="{_n(low)}" x2="{_n(high)}" y1="{_n(down)}" y2="{_n(down)}"/>',
        *(
            (
                f'<line class="interval {escape(css)}" x1="{_n(end)}" x2="{_n(end)}" y1="{_n(down - 5)}" '
                f'y2="{_n(down + 5)}"/>'
            )
            for end in (low, high)
        ),
        f'<circle class="estimate {escape(css)}" cx="{_n(estimate)}" cy="{_n(down)}" r="4.5"/>',
    ]


def histogram(
    title: str, samples: NDArray[np.float64], marks: Sequence[tuple[float, str]], write: Format, colour: int
) -> str:
    """Draw how positive samples spread, logarithmically, from their minimum to just beyond the last mark; the rest is
    counted.

    Bars are as high as the share of samples in them, of the highest; the marks are vertical lines.
    """
    height, bins = 150, 48
    low = float(samples.min()) / 1.02
    high = 1.02 * max(float(samples.min()), *(value for value, _ in marks))
    counts, edges = np.histogram(samples, bins=np.geomspace(low, high, bins + 1))
    x = Axis(title="", low=low, high=high, ticks=[(low, write(low)), (high, write(high))], log=True)
    # Counts reach up to 85 % of the height; the labels of the marks lie above.
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
        f'<line class="level" x1="{_n(right)}" x2="{_n(right)}" y1="{_TOP + 4}" y2="{frame.height - _BOTTOM}"/>',
        _label(right, _TOP, label, anchor, "strong"),
    ]


def spectrum(title: str, values: NDArray[np.float64], kept: int) -> str:
    """Draw falling eigenvalues as a small bar chart, the kept ones in colour."""
    width, height = 120, 28
    shown = np.clip(values[:: max(1, len(values) // 60)], 0, None)
    step, top = max(1, len(values) // 60), float(max(shown.max(initial=0.0), 1e-300))
    bar = width / max(1, len(shown))
    body = [
        f'<rect class="{"s1" if index * step < kept else "rest"}" x="{_n(index * bar)}" '
        f'y="{_n(height * (1 - value / top))}" width="{_n(0.8 * bar)}" height="{_n(height * value / top)}"/>'
        for index, value in enumerate(shown)
    ]
    return (
        f'<svg class="spark" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def cumulative_points(samples: NDArray[np.float64], count: int = 160) -> list[Point]:
    """Return points (value, share of samples at most that) of the empirical distribution, at most `count` + 1 of
    them."""
    ordered = np.sort(samples)
    ranks = np.unique(np.linspace(0, len(ordered) - 1, min(len(ordered), count)).round().astype(int))
    return [(float(ordered[rank]), (int(rank) + 1) / len(ordered)) for rank in ranks]


def _grid(frame: _Frame, *, ends: bool = False) -> list[str]:
    bottom = frame.height - _BOTTOM
    lines = [f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>']
    for value, label in frame.y.ticks:
        down = frame.down(value)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_n(down)}" y2="{_n(down)}"/>')
        lines.append(_label(_LEFT - 6, down + 4, label, "end", ""))
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
    return (
        f'<rect class="bar s{colour % COLOURS + 1}" x="{_n(start)}" y="{_n(top)}" '
        f'width="{_n(max(0.5, end - start - 0.6))}" height="{_n(frame.height - _BOTTOM - top)}"/>'
    )


def _label(right: float, down: float, text: str, anchor: str, css: str) -> str:
    if not text:
        return ""
    return f'<text class="{css}" x="{_n(right)}" y="{_n(down)}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: int, body: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
