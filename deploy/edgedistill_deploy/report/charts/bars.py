"""Charts of bars: intervals against a limit, distributions, spectra, and parts of a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.report.charts.frame import (
    BOTTOM,
    COLOURS,
    MARGINS,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Format,
    draw_frame,
    linear_axis,
    listed,
    write_text,
)
from edgedistill_deploy.report.charts.svg import TEXT, Marked, colour, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 40
_BARS = 72  # units, of the highest bar of a histogram


def interval_chart(
    title: str,
    rows: Sequence[tuple[str, float, float, float, str]],
    limit: float | None,
    write: Format,
    axis_title: str,
) -> str:
    """Draw one row for each (label, estimate, low, high, verdict): a bar from low to high with its estimate.

    Zero is marked. So is the limit where there is one, and the side above it is shaded. The mark's shape says the
    verdict too.
    """
    ends = [value for row in rows for value in row[1:4]]
    x = linear_axis(axis_title, [0.0, *([] if limit is None else [limit * 1.25]), *ends], write)
    inner = _ROW * len(rows) + 24

    def paint(axes: "Axes", marked: Marked) -> None:
        draw_frame(axes, marked, x, Axis(title="", low=0, high=1, ticks=()))
        at_zero = x.place(0)
        axes.axvline(at_zero, color=colour("soft"), linewidth=1, linestyle=(0, (2, 3)), gid=marked.name("zero"))
        if limit is not None:
            at_limit = x.place(limit)
            axes.axvspan(at_limit, 1, color=colour("fail-back"), linewidth=0, zorder=0, gid=marked.name("beyond"))
            axes.axvline(at_limit, color=colour("fail"), linewidth=1.5, gid=marked.name("limit"))
            write_text(axes, marked, (at_limit, 0), f"limit {write(limit)}", right=5, up=5, va="bottom")
        for index, row in enumerate(rows):
            _draw_interval(axes, marked, 1 - (_ROW * index + 26) / inner, row, x)

    told = listed([f"{label}, {write(low)} to {write(high)}, {verdict}" for label, _, low, high, verdict in rows])
    height = TOP + inner + BOTTOM
    heard = told if limit is None else f"{told}; limit {write(limit)}"
    return drawn(title, heard, (WIDTH, height), paint, margins=MARGINS)


EXPERT = "the expert"  # in the place of a verdict, where there is none
_VERDICT_MARKS = {"pass": "o", "fail": "X", "inconclusive": "D", EXPERT: "o"}
_TINTS = {EXPERT: "s2"}


def _draw_interval(axes: "Axes", marked: Marked, up: float, row: tuple[str, float, float, float, str], x: Axis) -> None:
    label, estimate, low, high, verdict = row
    tint = colour(_TINTS.get(verdict, verdict))
    write_text(axes, marked, (0.01, up), label, up=6, va="bottom", css="strong")
    ends = [x.place(low), x.place(high)]
    gid = marked.name("interval")
    axes.plot(ends, [up, up], color=tint, linewidth=2, marker="|", markersize=10, gid=gid)
    shape = _VERDICT_MARKS.get(verdict, "s")
    face = colour("card") if verdict == "inconclusive" else tint
    axes.plot(
        [x.place(estimate)], [up], color=tint, linestyle="", marker=shape, markersize=9, markerfacecolor=face,
        markeredgewidth=1.5, gid=marked.name("estimate"),
    )  # fmt: skip


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
        draw_frame(axes, marked, x, Axis(title="", low=0, high=1, ticks=()))
        for index, (value, label) in enumerate(marks):
            _draw_mark(axes, marked, x.place(value), label, (len(marks) - index - 1) * row + 4, index)

    top = 8 + row * len(marks)
    told = listed([*(label for _, label in marks), x.title])
    return drawn(title, told, (WIDTH, top + _BARS + BOTTOM), paint, margins=(RIGHT, RIGHT, top, BOTTOM))


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
    write_text(
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
                write_text(axes, marked, middle, label, right=5, va="center", css="on", tint="card")

    return drawn(title, listed([each.tip for each in parts[:12]]), (width, row * rows), paint, css="chart wide")


def _fitting(text: str, units: float) -> str:
    """Return as much of a text as fits, with "…" where it was cut; "" where not three letters do."""
    letters = int(units / (0.62 * TEXT))
    return text if len(text) <= letters else f"{text[: letters - 1]}…" if letters > 3 else ""
