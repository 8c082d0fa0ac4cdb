"""The time of each node of a model, from the runtime's own profiler, and the student's module that it belongs to.

These runs are not the timed ones: the profiler needs time at each node, and these times contain it.
"""

from collections.abc import Iterator

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.layers import LayerReport, NodeTime
from edgedistill_deploy.runtimes.session import Feeds, NodeTrace, Session

_WARM_UP = 5  # runs
_EVENTS = 20_000  # of the trace: the number of runs is chosen to give about so many, within the next two limits
_FEWEST, _MOST = 10, 200


def measure_layers(session: Session, feeds: Feeds, progress: Progress = silent) -> LayerReport:
    """Run the session's model on one batch with the runtime's profiler, in a session or context of its own.

    `progress` counts the runs. Raises UsageError for a runtime without a profiler.
    """
    modules = ModulesOfNodes(session.model_path)
    runs = min(_MOST, max(_FEWEST, _EVENTS // max(1, len(modules))))
    trace = session.trace_nodes(feeds, warm_up=_WARM_UP, runs=runs, progress=progress)
    if trace is None:
        raise UsageError(f"{session.runtime} tells no times of single nodes; leave --layers out.")
    return _of_trace(trace, modules)


def _of_trace(trace: NodeTrace, modules: ModulesOfNodes) -> LayerReport:
    return LayerReport(
        layers=tuple(sorted(_layers_of(trace, modules), key=lambda each: -each.mean_ms)),
        source=trace.source,
        runs=trace.runs,
        mean_ms=trace.mean_ms,
        outside_ms=trace.outside_ms,
    )


def _layers_of(trace: NodeTrace, modules: ModulesOfNodes) -> Iterator[NodeTime]:
    for node in trace.nodes:
        module, operator = modules.find(node.name, node.op_type)
        yield NodeTime(
            node=node.name,
            op_type=node.op_type or operator,
            module=module,
            mean_ms=node.mean_ms,
            share=node.mean_ms / trace.mean_ms if trace.mean_ms > 0 else 0.0,
            provider=node.provider,
        )
