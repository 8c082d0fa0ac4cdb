"""The times of a model's nodes, summed up from the runtimes' profilers."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgedistill_deploy.runtimes.providers import plain_name
from edgedistill_deploy.runtimes.session import NodeRun, NodeTrace

_KERNEL = "_kernel_time"
_US_PER_MS = 1000.0


def sum_events(events: Sequence[Mapping[str, Any]], warm_up: int, runs: int) -> NodeTrace:
    """Sum up ONNX Runtime's trace, whose times are in microseconds. A run can have several parts, one for each image.

    Only the faster half of the parts counts, because other work on the machine makes the rest slow.
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
    return NodeTrace(
        nodes=tuple(
            NodeRun(name=name.removesuffix(_KERNEL), op_type=operator, mean_ms=mean, provider=provider)
            for (name, _, operator, provider), mean in totals.items()
        ),
        source="ONNX Runtime's profiler",
        runs=len(counted) // parts,
        mean_ms=run_ms,
        outside_ms=max(0.0, run_ms - sum(totals.values())),
    )


def sum_layers(times: Sequence[tuple[str, tuple[float, ...]]], provider: str) -> NodeTrace:
    """Sum up the times in milliseconds, run by run, of TensorRT's layers."""
    runs = len(times[0][1])
    nodes = tuple(
        NodeRun(name=name, op_type=None, mean_ms=sum(samples) / runs, provider=provider) for name, samples in times
    )
    whole_ms = sum(each.mean_ms for each in nodes)
    return NodeTrace(nodes=nodes, source="TensorRT's profiler", runs=runs, mean_ms=whole_ms, outside_ms=None)


def _began(event: Mapping[str, Any]) -> int:
    return int(event["ts"])


def _kernels(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = [each for each in events if each.get("cat") == "Node" and each["name"].endswith(_KERNEL)]
    return sorted(found, key=lambda each: (each["ts"], -each["dur"]))


def _within(kernels: Iterable[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Keep the kernels inside one of the runs; both are in the order of their start."""
    begins = [_began(run) for run in runs]
    for each in kernels:
        place = bisect_right(begins, _began(each)) - 1
        if place >= 0 and _began(each) <= begins[place] + runs[place]["dur"]:
            yield each


def _outermost(kernels: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """Leave out the nodes of branches and loops, whose time also counts for the node around them."""
    end = 0
    for each in kernels:
        if each["ts"] >= end:
            end = each["ts"] + each["dur"]
            yield each
