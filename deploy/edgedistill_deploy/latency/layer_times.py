"""How long each node of a model takes, by the runtime's own profiler, and which of the student's modules it is of.

The runs are not those that are timed: a profiler costs time at each node, which these times contain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import plain
from edgedistill_deploy.runtimes.session import Feeds, NodeTrace, Session

# Runs before those that count, and how many count: so many that the trace has about that number of events, within these ends.
_WARM_UP = 5
_EVENTS = 20_000
_FEWEST, _MOST = 10, 200


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


def measure_layers(session: Session, feeds: Feeds, progress: Progress = silent) -> LayerReport:
    """Run the session's model with the profiler of its runtime on, in a session or context of its own.

    Args:
        session: of a runtime with a profiler.
        feeds: of one batch.
        progress: counts the runs.

    Raises UsageError for a runtime without a profiler.
    """
    modules = ModulesOfNodes(session.model_path)
    runs = min(_MOST, max(_FEWEST, _EVENTS // max(1, len(modules))))
    trace = session.trace_nodes(feeds, warm_up=_WARM_UP, runs=runs, progress=progress)
    if trace is None:
        raise UsageError(f"{session.runtime} tells no times of single nodes; leave --layers out.")
    return _of_trace(trace, modules)


def _of_trace(trace: NodeTrace, modules: ModulesOfNodes) -> LayerReport:
    """Find the module of each node; those that take most come first."""
    layers = []
    for node in trace.nodes:
        module, operator = modules.find(node.name, node.op_type)
        layers.append(
            NodeTime(
                node=node.name,
                op_type=node.op_type or operator,
                module=module,
                mean_ms=node.mean_ms,
                share=node.mean_ms / trace.mean_ms if trace.mean_ms > 0 else 0.0,
                provider=node.provider,
            )
        )
    return LayerReport(
        layers=_slowest_first(layers),
        source=trace.source,
        runs=trace.runs,
        mean_ms=trace.mean_ms,
        outside_ms=trace.outside_ms,
    )


def _slowest_first(layers: Sequence[NodeTime]) -> tuple[NodeTime, ...]:
    return tuple(sorted(layers, key=lambda each: -each.mean_ms))
