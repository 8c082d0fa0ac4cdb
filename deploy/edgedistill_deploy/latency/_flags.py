"""Flags of a measurement: what makes its figures doubtful, each with a short name and a sentence."""

from collections.abc import Iterator

import numpy as np

from edgedistill_deploy.hardware.device import DeviceInfo
from edgedistill_deploy.latency._warm_up import STEADY_WITHIN
from edgedistill_deploy.records.latency import WarmUp
from edgedistill_deploy.statistics.bimodal import Modes
from edgedistill_deploy.statistics.quantiles import Samples, block_variation, drift

Conditions = dict[str, dict[str, object]]

# A figure above its limit is flagged. The limits were measured on a quiet and on a loaded machine.
_MOST_DRIFT = 0.05
_MOST_VARIATION = 0.03
_MOST_PREEMPTED = 0.05
_MOST_PRESSURE = 10.0
_MOST_STOLEN = 0.01
_MOST_OVERHEAD = 0.01


def warnings_of_samples(
    samples: Samples, modes: Modes | None, warmed: WarmUp, overhead_ms: float
) -> Iterator[tuple[str, str]]:
    """Yield the flags of the times that apply, each with its sentence."""
    moved, variation = drift(samples) or 0.0, block_variation(samples) or 0.0
    overhead = overhead_ms / float(np.median(samples)) if np.median(samples) > 0 else 0.0
    if warmed.steady is False:
        yield "unsteady", f"After {warmed.runs} runs of warm-up the times still moved by more than {STEADY_WITHIN:.0%}."
    if abs(moved) > _MOST_DRIFT:
        yield "drift", f"The median moved by {moved:+.1%} from the first third of the runs to the last."
    if variation > _MOST_VARIATION:
        yield "noisy", f"The medians of five blocks of runs vary by {variation:.1%}."
    if modes is not None:
        slow = f"{modes.slow_ms:.3g} ms in {modes.slow_share:.0%} of the runs; the median is a mixture of both."
        yield "bimodal", f"There are two usual times: {modes.fast_ms:.3g} ms, and {slow}"
    if overhead > _MOST_OVERHEAD:
        yield "overhead", f"Timing an empty call takes {overhead:.1%} of the median; it is not subtracted."


def warnings_of_machine(
    samples: Samples, preempted_share: float | None, conditions: Conditions, device: DeviceInfo
) -> dict[str, str]:
    """Return the flags of the machine's state, each with its sentence; "" where the flag does not apply."""
    share = preempted_share or 0.0
    return {
        "preempted": f"{share:.1%} of the runs were interrupted by other work; see the clean figures."
        if share > _MOST_PREEMPTED
        else "",
        "contended": _contention(conditions, float(samples.sum()) / 1000),
        "throttled": _throttling(conditions),
        "emulated": "The processor is emulated: the times say nothing of the real device." if device.emulated else "",
    }


def _contention(conditions: Conditions, wall_s: float) -> str:
    pressures = [_entry(state, "pressure", "some_avg10") for state in conditions.values()]
    pressure = max((value for value in pressures if isinstance(value, float)), default=0.0)
    if pressure > _MOST_PRESSURE:
        return f"Tasks waited for a CPU {pressure:.0f} % of the time; measure on a quiet machine."
    stolen = [conditions[moment]["stolen_s"] for moment in ("before", "after")]
    taken = stolen[1] - stolen[0] if isinstance(stolen[0], float) and isinstance(stolen[1], float) else 0.0
    return f"Another guest took {taken:.2f} s of CPU time." if taken > _MOST_STOLEN * wall_s else ""


def _throttling(conditions: Conditions) -> str:
    active = [_entry(state, "throttling", "active") for state in conditions.values()]
    reasons = sorted({str(reason) for found in active if isinstance(found, list) for reason in found})
    if reasons:
        return f"The firmware reports {', '.join(reasons)}."
    events = [_entry(conditions[moment], "throttling", "core_events") for moment in ("before", "after")]
    grown = isinstance(events[0], int) and isinstance(events[1], int) and events[1] > events[0]
    return "The CPU throttled itself for heat while measuring." if grown else ""


def _entry(state: dict[str, object], reading: str, key: str) -> object:
    found = state[reading]
    return found.get(key) if isinstance(found, dict) else None
