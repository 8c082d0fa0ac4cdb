"""The parts of a latency record about the time of single nodes and the energy of an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.records.schema import Share, Time, read_as
from edgedistill_deploy.records.values import as_list, as_mapping, as_number, as_text
from edgedistill_deploy.records.writing import plain

TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """One node of the graph that the runtime runs; `share` is of the run's time.

    `op_type` is None if the runtime does not report it. `module` is the student's module, by its name in torch's
    named_modules; None for a node that the runtime added.
    """

    node: str
    op_type: str | None
    module: str | None
    mean_ms: Time
    share: Share
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """The nodes, slowest first, and the time in none of them.

    `source` names the profiler. `runs` are the counted ones: ONNX Runtime's faster half. `mean_ms` is of a whole run
    with the profiler on, `outside_ms` its part in no node; None if the profiler reports only nodes.
    """

    layers: tuple[NodeTime, ...]
    source: str
    runs: int
    mean_ms: Time
    outside_ms: Time | None

    @property
    def top(self) -> tuple[NodeTime, ...]:
        """The ten slowest nodes."""
        return self.layers[:TOP]

    @property
    def rest(self) -> tuple[int, float, float]:
        """The number of the other nodes, their ms, and their share."""
        others = self.layers[TOP:]
        return len(others), sum(each.mean_ms for each in others), sum(each.share for each in others)

    @property
    def outside_share(self) -> float | None:
        """The share of a run that is in no node."""
        return None if self.outside_ms is None or self.mean_ms <= 0 else self.outside_ms / self.mean_ms

    def to_json(self) -> dict[str, Any]:
        """Return {"layers": [...], "layer_run": {...}}, two keys of a latency record."""
        run = plain(self)
        return {"layers": run.pop("layers"), "layer_run": {**run, "outside_share": self.outside_share}}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "LayerReport | None":
        """Read a latency record's "layers" and "layer_run"; None if it has no layers. Raises as `read_as`."""
        if not record.get("layers"):
            return None
        return read_as(cls, {**as_mapping(record["layer_run"]), "layers": record["layers"]})


def power_sentence(record: Mapping[str, Any]) -> str:
    """Describe the board's power readings; empty if there are none."""
    if not record.get("power"):
        return ""
    power = as_mapping(record["power"])
    reason = "" if power["reason"] is None else as_text(power["reason"])
    if power["load"] is None:
        return f"Energy {reason}."
    idle, load = (as_number(as_mapping(power[name])["mean_w"]) for name in ("idle", "load"))
    low, high = (words.significant(as_number(end)) for end in as_list(power["net_interval_w"]))
    said = (
        f"{words.significant(load)} W under load less {words.significant(idle)} W at rest ({as_text(power['scope'])}, "
        f"by {as_text(power['reader'])}): {words.significant(as_number(power['net_w']))} W, [{low}, {high}]"
    )
    energy = power["energy_per_image_mj"]
    if energy is None:
        return f"{said}; no energy is stated, as {reason}."
    gross = as_number(power["gross_energy_per_image_mj"])
    return (
        f"{said}; an image takes {words.significant(as_number(energy))} mJ, {words.significant(gross)} mJ with what "
        "the board takes at rest."
    )
