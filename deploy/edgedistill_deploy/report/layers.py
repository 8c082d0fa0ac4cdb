"""Draws for the page how the student's modules share the time of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html import escape

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.report.charts import COLOURS

ADDED, OUTSIDE = "added by the runtime", "in no node"
_DEEPEST = 12  # levels that are drawn
_ROW = 24  # pixels
_NARROWEST = 0.0005  # of the width


@dataclass(slots=True)
class _Part:
    ms: float = 0.0
    parts: "dict[str, _Part]" = field(default_factory=dict)


def icicle(title: str, layers: LayerReport) -> str:
    """Draw the run as a bar and its modules as bars below, level by level; the width of a bar is its time."""
    whole = _tree(layers)
    height = (min(_DEEPEST, _depth(whole)) + 1) * _ROW
    bars = _draw_part(whole, _Place(label=f"a run, {words.milliseconds(whole.ms)}", whole_ms=max(whole.ms, 1e-12)))
    start = f'<div class="icicle" role="img" aria-label="{escape(title)}" style="height: {height}px">'
    return f"{start}{''.join(bars)}</div>"


def _tree(layers: LayerReport) -> _Part:
    whole = _Part()
    for node in layers.layers:
        _add(whole, node.module.split(".")[:_DEEPEST] if node.module else [ADDED], node.mean_ms)
    if layers.outside_ms:
        _add(whole, [OUTSIDE], layers.outside_ms)
    return whole


def _add(whole: _Part, path: Sequence[str], ms: float) -> None:
    whole.ms += ms
    for name in path:
        whole = whole.parts.setdefault(name, _Part())
        whole.ms += ms


def _depth(part: _Part) -> int:
    return 1 + max(map(_depth, part.parts.values())) if part.parts else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """The place of a part: its label and path, its ms from the left of the whole run's, its row and its colour."""

    label: str
    whole_ms: float
    path: str = ""
    left_ms: float = 0.0
    row: int = 0
    colour: int = 0


def _draw_part(part: _Part, place: _Place) -> list[str]:
    """Draw a part and the parts below it, in their order in the record."""
    drawn, left = [_bar(part, place)], place.left_ms
    for index, (name, below) in enumerate(part.parts.items()):
        path = f"{place.path}.{name}" if place.path else name
        colour = place.colour if place.row else index % (COLOURS - 1) + 1
        if below.ms >= _NARROWEST * place.whole_ms:
            colour = 0 if path in (ADDED, OUTSIDE) else colour
            there = replace(place, label=name, path=path, left_ms=left, row=place.row + 1, colour=colour)
            drawn += _draw_part(below, there)
        left += below.ms
    return drawn


def _bar(part: _Part, place: _Place) -> str:
    share = part.ms / place.whole_ms
    tip = f"{place.path or 'a run'}: {words.milliseconds(part.ms)}, {words.percent(share)}"
    where = f"left: {100 * place.left_ms / place.whole_ms:.3f}%; width: {100 * share:.3f}%; top: {place.row * _ROW}px"
    return (
        f'<div class="part p{place.colour}" style="{where}" '
        f'title="{escape(tip)}"><span>{escape(place.label)}</span></div>'
    )
