"""Draws for the page how the student's modules share the time of a run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.report.charts.bars import Block, blocks
from edgedistill_deploy.report.charts.frame import COLOURS

ADDED, OUTSIDE = "added by the runtime", "in no node"
_DEEPEST = 12  # levels that are drawn
_NARROWEST = 0.0005  # of the width


@dataclass(slots=True)
class _Part:
    ms: float = 0.0
    parts: "dict[str, _Part]" = field(default_factory=dict)


def icicle(title: str, layers: LayerReport) -> str:
    """Draw the run as a bar and its modules as bars below, level by level; the width of a bar is its time."""
    return blocks(title, parts_of(layers))


def parts_of(layers: LayerReport) -> list[Block]:
    """Return the bars of a run: the run itself in row 0, its modules below, in their order in the record."""
    whole = _tree(layers)
    return _blocks(whole, _Place(label=f"a run, {words.milliseconds(whole.ms)}", whole_ms=max(whole.ms, 1e-12)))


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
    colour: int | None = None


def _blocks(part: _Part, place: _Place) -> list[Block]:
    """Return a part and the parts below it, in their order in the record."""
    found, left = [_block(part, place)], place.left_ms
    for index, (name, below) in enumerate(part.parts.items()):
        path = f"{place.path}.{name}" if place.path else name
        colour = place.colour if place.row else index % (COLOURS - 1) + 1
        if below.ms >= _NARROWEST * place.whole_ms:
            colour = None if path in (ADDED, OUTSIDE) else colour
            there = replace(place, label=name, path=path, left_ms=left, row=place.row + 1, colour=colour)
            found += _blocks(below, there)
        left += below.ms
    return found


def _block(part: _Part, place: _Place) -> Block:
    share = part.ms / place.whole_ms
    return Block(
        label=place.label,
        tip=f"{place.path or 'a run'}: {words.milliseconds(part.ms)}, {words.percent(share)}",
        left=place.left_ms / place.whole_ms,
        width=share,
        row=place.row,
        colour=place.colour,
    )
