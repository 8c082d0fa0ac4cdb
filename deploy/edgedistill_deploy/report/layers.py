"""Where a model's time goes, by node and by the student's modules, and what an image takes in energy, for the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.report.charts import COLOURS
from edgedistill_deploy.report.values import as_list, as_mapping, as_number, as_share, as_text, as_time, maybe

TOP = 10
ADDED, OUTSIDE = "added by the runtime", "in no node"
_DEEPEST = 12  # levels that are drawn
_ROW = 24  # pixels
_NARROWEST = 0.0005  # of the width


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """One node: its name, what it computes, its module, ms of a run, share of the run, and where it ran."""

    node: str
    op_type: str
    module: str
    mean_ms: float
    share: float
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayersRecord:
    """The nodes, slowest first, and the run they are of; `outside_ms` is None where the profiler tells of nodes only."""

    nodes: tuple[NodeRow, ...]
    source: str
    mean_ms: float
    outside_ms: float | None

    @property
    def top(self) -> tuple[NodeRow, ...]:
        """The ten that take most."""
        return self.nodes[:TOP]

    @property
    def rest(self) -> tuple[int, float, float]:
        """How many others there are, their ms, and their share."""
        others = self.nodes[TOP:]
        return len(others), sum(each.mean_ms for each in others), sum(each.share for each in others)


def parse_layers(record: Mapping[str, Any]) -> LayersRecord | None:
    """Read "layers" and "layer_run" of a latency record; None where it has none."""
    if not record.get("layers"):
        return None
    run = as_mapping(record["layer_run"])
    nodes = [_node(as_mapping(each)) for each in as_list(record["layers"])]
    return LayersRecord(
        nodes=tuple(sorted(nodes, key=lambda each: -each.mean_ms)),
        source=as_text(run["source"]),
        mean_ms=as_time(run["mean_ms"]),
        outside_ms=maybe(run["outside_ms"], as_time),
    )


def _node(row: Mapping[str, Any]) -> NodeRow:
    return NodeRow(
        node=as_text(row["node"]),
        op_type="" if row["op_type"] is None else as_text(row["op_type"]),
        module="" if row["module"] is None else as_text(row["module"]),
        mean_ms=as_time(row["mean_ms"]),
        share=as_share(row["share"]),
        provider=as_text(row["provider"]),
    )


def power_sentence(record: Mapping[str, Any]) -> str:
    """Say what the board told of its power; empty where it was not asked."""
    if not record.get("power"):
        return ""
    power = as_mapping(record["power"])
    reason = "" if power["reason"] is None else as_text(power["reason"])
    if power["load"] is None:
        return f"Energy {reason}."
    idle, load = (as_number(as_mapping(power[name])["mean_w"]) for name in ("idle", "load"))
    low, high = (words.significant(as_number(end)) for end in as_list(power["net_interval_w"]))
    said = (
        f"{words.significant(load)} W under load less {words.significant(idle)} W at rest ({as_text(power['scope'])}, by"
        f" {as_text(power['reader'])}): {words.significant(as_number(power['net_w']))} W, [{low}, {high}]"
    )
    energy = power["energy_per_image_mj"]
    if energy is None:
        return f"{said}; no energy is stated, as {reason}."
    gross = as_number(power["gross_energy_per_image_mj"])
    return (
        f"{said}; an image takes {words.significant(as_number(energy))} mJ, {words.significant(gross)} mJ with what the board takes"
        " at rest."
    )


@dataclass(slots=True)
class _Part:
    ms: float = 0.0
    parts: "dict[str, _Part]" = field(default_factory=dict)


def icicle(title: str, layers: LayersRecord) -> str:
    """Draw the run as a bar, below it its parts by module, below each its own: as wide as the time they take."""
    whole = _tree(layers)
    height = (min(_DEEPEST, _depth(whole)) + 1) * _ROW
    bars = _drawn(
        whole, _Place(label=f"a run, {words.milliseconds(whole.ms)}", whole_ms=max(whole.ms, 1e-12))
    )
    return f'<div class="icicle" role="img" aria-label="{escape(title)}" style="height: {height}px">{"".join(bars)}</div>'


def _tree(layers: LayersRecord) -> _Part:
    whole = _Part()
    for node in layers.nodes:
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
    """Where a part is drawn: so many ms from the left of so many, in which row, under which name and in which colour."""

    label: str
    whole_ms: float
    path: str = ""
    left_ms: float = 0.0
    row: int = 0
    colour: int = 0


def _drawn(part: _Part, place: _Place) -> list[str]:
    """Draw a part and those below it, in the order they were met."""
    drawn, left = [_bar(part, place)], place.left_ms
    for index, (name, below) in enumerate(part.parts.items()):
        path = f"{place.path}.{name}" if place.path else name
        colour = place.colour if place.row else index % (COLOURS - 1) + 1
        if below.ms >= _NARROWEST * place.whole_ms:
            drawn += _drawn(
                below,
                replace(
                    place,
                    label=name,
                    path=path,
                    left_ms=left,
                    row=place.row + 1,
                    colour=0 if path in (ADDED, OUTSIDE) else colour,
                ),
            )
        left += below.ms
    return drawn


def _bar(part: _Part, place: _Place) -> str:
    share = part.ms / place.whole_ms
    told = f"{place.path or 'a run'}: {words.milliseconds(part.ms)}, {words.percent(share)}"
    where = f"left: {100 * place.left_ms / place.whole_ms:.3f}%; width: {100 * share:.3f}%; top: {place.row * _ROW}px"
    return f'<div class="part p{place.colour}" style="{where}" title="{escape(told)}"><span>{escape(place.label)}</span></div>'
