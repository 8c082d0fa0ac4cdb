"""How long each node of a model takes, by the runtime's own profiler, and which of the student's modules it is of.

The runs are not those that are timed: a profiler costs time at each node, which these times contain.
"""

from collections.abc import Sequence

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.layers import LayerReport, NodeTime
from edgedistill_deploy.runtimes.session import Feeds, NodeTrace, Session

# Runs before those that count, and how many count: so many that the trace has about that number of events, within these
# ends.
_WARM_UP = 5
_EVENTS = 20_000
_FEWEST, _MOST = 10, 200


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
