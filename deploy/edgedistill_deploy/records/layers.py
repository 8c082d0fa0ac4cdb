"""What a latency record says of the time of single nodes and of the energy of an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.values import (
    as_list,
    as_mapping,
    as_number,
    as_share,
    as_text,
    as_time,
    maybe,
)

TOP = 10


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
