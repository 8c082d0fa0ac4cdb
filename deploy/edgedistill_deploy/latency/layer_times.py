"""How long each node of a model takes, by the runtime's own profiler, and which of the student's modules it is of.

The runs are not those that are timed: a profiler costs time at each node, which these times contain.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.records.writing import plain
from edgedistill_deploy.runtimes._onnxruntime import OnnxRuntimeSession
from edgedistill_deploy.runtimes.providers import plain_name
from edgedistill_deploy.runtimes.session import Feeds, Session
from edgedistill_deploy.runtimes.tensorrt.session import TensorRtSession

# Runs before those that count, and how many count: so many that the trace has about that number of events, within these ends.
_WARM_UP = 5
_EVENTS = 20_000
_FEWEST, _MOST = 10, 200
_KERNEL = "_kernel_time"
_US_PER_MS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """One node of the graph that the runtime runs.

    Attributes:
        node: its name there.
        op_type: what it computes; None where the runtime does not say.
        module: of the student, as torch's named_modules has it; None for what the runtime added.
        mean_ms: of a run.
        share: of the run's time.
        provider: where it ran.
    """

    node: str
    op_type: str | None
    module: str | None
    mean_ms: float
    share: float
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """The nodes, those that take most first, and what is in none of them.

    Attributes:
        source: whose profiler.
        runs: how many counted: of ONNX Runtime's, the faster half.
        mean_ms: of a whole run with the profiler on.
        outside_ms: of it in no node; None where the profiler tells of nodes only.
    """

    layers: tuple[NodeTime, ...]
    source: str
    runs: int
    mean_ms: float
    outside_ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return {"layers": [...], "layer_run": {...}}, which a latency record takes in."""
        outside = None if self.outside_ms is None or self.mean_ms <= 0 else self.outside_ms / self.mean_ms
        run = {
            "source": self.source,
            "runs": self.runs,
            "mean_ms": self.mean_ms,
            "outside_ms": self.outside_ms,
            "outside_share": outside,
        }
        return {"layers": [dict(plain(each)) for each in self.layers], "layer_run": run}


def measure_layers(
    session: Session, feeds: Feeds, progress: Callable[[int, int], None] | None = None
) -> LayerReport:
    """Run the session's model with the profiler of its runtime on, in a session or context of its own.

    Args:
        session: of ONNX Runtime or TensorRT.
        feeds: of one batch.
        progress: called with (done, total) runs.

    Raises UsageError for a runtime without a profiler.
    """
    modules = ModulesOfNodes(session.model_path)
    runs = min(_MOST, max(_FEWEST, _EVENTS // max(1, len(modules))))
    if isinstance(session, OnnxRuntimeSession):
        events = session.trace(feeds, _WARM_UP + runs, progress)
        return _of_trace(events, modules, _WARM_UP, runs)
    if isinstance(session, TensorRtSession):
        times = session.layer_times(feeds, _WARM_UP + runs)
        return _of_layers(
            [(each.name, each.samples_ms[_WARM_UP:]) for each in times], modules, session.provider
        )
    raise UsageError(f"{session.runtime} tells no times of single nodes; leave --layers out.")


def _of_trace(
    events: Sequence[Mapping[str, Any]], modules: ModulesOfNodes, warm_up: int, runs: int
) -> LayerReport:
    """Sum up ONNX Runtime's trace, whose times are in microseconds; a run may come in several parts, image by image.

    Only the faster half of the parts counts: what else the machine does makes the others, and none of the nodes, slow.
    """
    whole = sorted((each for each in events if each["name"] == "model_run"), key=_began)
    parts = len(whole) // (warm_up + runs)
    counted = sorted(whole[warm_up * parts :], key=lambda each: int(each["dur"]))[: max(1, runs * parts // 2)]
    per_run = parts / len(counted) / _US_PER_MS
    run_ms = sum(each["dur"] for each in counted) * per_run
    totals: dict[tuple[str, str, str, str], float] = {}
    for each in _outermost(_within(_kernels(events), sorted(counted, key=_began))):
        told = each["args"]
        key = each["name"], str(told.get("node_index", "")), told["op_name"], plain_name(told["provider"])
        totals[key] = totals.get(key, 0.0) + each["dur"] * per_run
    layers = [
        NodeTime(
            node=name.removesuffix(_KERNEL),
            op_type=operator,
            module=modules.find(name.removesuffix(_KERNEL), operator)[0],
            mean_ms=mean,
            share=mean / run_ms if run_ms > 0 else 0.0,
            provider=provider,
        )
        for (name, _, operator, provider), mean in totals.items()
    ]
    return LayerReport(
        layers=_slowest_first(layers),
        source="ONNX Runtime's profiler",
        runs=len(counted) // parts,
        mean_ms=run_ms,
        outside_ms=max(0.0, run_ms - sum(totals.values())),
    )


def _began(event: Mapping[str, Any]) -> int:
    return int(event["ts"])


def _kernels(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = [each for each in events if each.get("cat") == "Node" and each["name"].endswith(_KERNEL)]
    return sorted(found, key=lambda each: (each["ts"], -each["dur"]))


def _within(
    kernels: Iterable[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]
) -> Iterable[Mapping[str, Any]]:
    """Keep what lies in one of the runs; both are in the order of their beginning."""
    begins = [_began(run) for run in runs]
    for each in kernels:
        place = bisect_right(begins, _began(each)) - 1
        if place >= 0 and _began(each) <= begins[place] + runs[place]["dur"]:
            yield each


def _outermost(kernels: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Leave out the nodes of branches and loops, whose time is that of the node around them too."""
    end = 0
    for each in kernels:
        if each["ts"] >= end:
            end = each["ts"] + each["dur"]
            yield each


def _of_layers(
    times: Sequence[tuple[str, tuple[float, ...]]], modules: ModulesOfNodes, provider: str
) -> LayerReport:
    means = [(name, sum(samples) / len(samples)) for name, samples in times]
    total = sum(mean for _, mean in means)
    layers = []
    for name, mean in means:
        module, operator = modules.find(name)
        share = mean / total if total > 0 else 0.0
        layers.append(
            NodeTime(node=name, op_type=operator, module=module, mean_ms=mean, share=share, provider=provider)
        )
    return LayerReport(
        layers=_slowest_first(layers),
        source="TensorRT's profiler",
        runs=len(times[0][1]),
        mean_ms=total,
        outside_ms=None,
    )


def _slowest_first(layers: Sequence[NodeTime]) -> tuple[NodeTime, ...]:
    return tuple(sorted(layers, key=lambda each: -each.mean_ms))
