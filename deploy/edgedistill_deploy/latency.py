"""How long one batch takes here, with every sample kept and the state of the machine beside it.

This module holds the only clock of the project. It times `Session.run` alone: the batch is prepared before, and what comes out
is the time from numpy arrays in to numpy arrays out.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy._measurable import require_measurable
from edgedistill_deploy._providers import nodes_elsewhere
from edgedistill_deploy._records import SCHEMA, plain, record_path
from edgedistill_deploy._samples import (
    OpenInterval,
    Samples,
    block_variation,
    drift,
    quantile_intervals,
    quantiles,
)
from edgedistill_deploy.bundle import Bundle
from edgedistill_deploy.device import (
    DeviceInfo,
    read_conditions,
    read_device,
    read_involuntary_switches,
    read_peak_memory_bytes,
)
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files import write_json
from edgedistill_deploy.session import Session

Clock = Callable[[], int]
Progress = Callable[[int, int], None]

_NS_PER_MS = 1e6
_EMPTY_CALLS = 1000
_PROGRESS_EVERY_NS = 100_000_000

# Above these a figure is flagged; measured on a quiet and on a loaded machine, see the documentation of the flags.
_MOST_DRIFT = 0.05
_MOST_VARIATION = 0.03
_MOST_PREEMPTED = 0.05
_MOST_PRESSURE = 10.0
_MOST_STOLEN = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyConfig:
    """How long to measure: warm up for `warmup_s` and `warmup_runs`, then for `duration_s` and `min_runs`, up to `max_runs`."""

    batch_size: int = 1
    warmup_s: float = 1.0
    warmup_runs: int = 10
    duration_s: float = 10.0
    min_runs: int = 50
    max_runs: int = 200_000

    def __post_init__(self) -> None:
        for name in ("batch_size", "min_runs", "max_runs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("warmup_s", "warmup_runs", "duration_s"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 0 or more, and finite.")
        if self.min_runs > self.max_runs:
            raise UsageError(f"min_runs is {self.min_runs}, more than max_runs, which is {self.max_runs}.")


DEFAULT_CONFIG = LatencyConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSamples:
    """Statistics of the runs during which the scheduler took the CPU away from nobody in this process."""

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """A measurement; `to_json` is the record. Times are for one batch of `batch_size` images.

    `throughput_per_s` is images per second of these sequential runs. `peak_memory_bytes` is the whole process's
    (`device.read_peak_memory_bytes`). `loop_overhead_ms` is what an empty call costs in the same loop, and is not subtracted.
    `preempted_share` and `clean` are None where the system does not count preemptions. `flags` names what makes the figures
    doubtful, `warnings` says it in sentences:

    drift      the last third of the runs differs from the first by more than 5 %
    noisy      the medians of five consecutive blocks vary by more than 3 %
    preempted  more than 5 % of the runs were interrupted by other work
    contended  tasks waited for a CPU more than 10 % of the time, or another guest took more than 1 % of it
    throttled  the firmware or the CPU reports throttling
    emulated   the processor is emulated: the times say nothing of the real device
    fallback   some nodes run on another provider than asked for; `placement` counts the nodes of each, where the runtime tells
    """

    bundle: str
    device: DeviceInfo
    runtime: str
    provider: str
    precision: str
    model_sha256: str
    batch_size: int
    threads: int
    warmup_runs: int
    runs: int
    samples_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    intervals: dict[str, OpenInterval]
    mean_ms: float
    std_ms: float | None
    min_ms: float
    throughput_per_s: float | None
    load_ms: float
    first_run_ms: float
    loop_overhead_ms: float
    preempted_share: float | None
    clean: CleanSamples | None
    peak_memory_bytes: int | None
    model_bytes: int
    conditions: dict[str, dict[str, object]]
    flags: tuple[str, ...]
    warnings: tuple[str, ...]
    placement: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record: kind "latency", schema 1, plain JSON values without NaN."""
        return {"kind": "latency", "schema": SCHEMA, **plain(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timings:
    first_ms: float
    warmup_runs: int
    samples_ms: Samples
    preempted: NDArray[np.bool_] | None
    overhead_ms: float


def measure_latency(
    session: Session,
    images: NDArray[np.uint8],
    config: LatencyConfig = DEFAULT_CONFIG,
    clock: Clock = time.perf_counter_ns,
    progress: Progress | None = None,
) -> LatencyReport:
    """Time the session on batches tiled from `images`, uint8 (n, H, W, 3).

    `clock` returns nanoseconds. `progress` is called between runs, at most ten times a second, with milliseconds done and
    planned. For figures that can be compared start a fresh process for every configuration.
    """
    require_measurable(session)
    feeds = {"image": _tiled(images, config.batch_size)}
    before = read_conditions()
    timings = _time(lambda: session.run(feeds), config, clock, progress)
    conditions = {"before": before, "after": read_conditions()}
    return _report(session, config, timings, conditions)


def write_latency(bundle: Bundle, report: LatencyReport) -> Path:
    """Write the record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle and return its path."""
    path = record_path(
        bundle.path, "latency", report.device.name, report.runtime, report.precision, report.provider
    )
    write_json(path, report.to_json())
    return path


def _tiled(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    if len(images) == 0:
        raise DataError("Measuring latency needs at least one image and got none.")
    return np.ascontiguousarray(images[np.arange(batch_size) % len(images)])


def _time(
    run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress | None
) -> _Timings:
    first_ns = _run_once(run, clock)
    warmup_runs = _warm_up(run, config, clock)
    samples, preempted = _collect(run, config, clock, progress)
    return _Timings(
        first_ms=first_ns / _NS_PER_MS,
        warmup_runs=warmup_runs,
        samples_ms=np.asarray(samples, dtype=np.float64) / _NS_PER_MS,
        preempted=None if None in preempted else np.asarray(preempted, dtype=np.bool_),
        overhead_ms=float(np.median([_run_once(_nothing, clock) for _ in range(_EMPTY_CALLS)])) / _NS_PER_MS,
    )


def _run_once(run: Callable[[], object], clock: Clock) -> int:
    began = clock()
    run()
    return clock() - began


def _nothing() -> None:
    return None


def _warm_up(run: Callable[[], object], config: LatencyConfig, clock: Clock) -> int:
    """Run until both the time and the number of runs are reached; the first run counts as one."""
    runs, deadline = 1, clock() + config.warmup_s * 1e9
    while runs < config.warmup_runs or clock() < deadline:
        run()
        runs += 1
    return runs


def _collect(
    run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress | None
) -> tuple[list[int], list[bool | None]]:
    """Return each run's nanoseconds, and whether it was preempted (None where nobody counts)."""
    samples: list[int] = []
    preempted: list[bool | None] = []
    began = shown = clock()
    planned_ns = config.duration_s * 1e9
    while len(samples) < config.max_runs:
        switches = read_involuntary_switches()
        samples.append(_run_once(run, clock))
        preempted.append(None if switches is None else read_involuntary_switches() != switches)
        now = clock()
        if progress and now - shown >= _PROGRESS_EVERY_NS:
            shown = now
            progress(int(min(now - began, planned_ns) / _NS_PER_MS), int(planned_ns / _NS_PER_MS))
        if now - began >= planned_ns and len(samples) >= config.min_runs:
            break
    return samples, preempted


def _report(
    session: Session, config: LatencyConfig, timings: _Timings, conditions: dict[str, dict[str, object]]
) -> LatencyReport:
    samples, device = timings.samples_ms, read_device()
    total_ms = float(samples.sum())
    warnings = _warnings(timings, conditions, device)
    elsewhere = nodes_elsewhere(session.provider, session.placement)
    if elsewhere:
        warnings["fallback"] = elsewhere
    return LatencyReport(
        bundle=session.model_path.resolve().parent.name,
        device=device,
        runtime=session.runtime,
        provider=session.provider,
        precision=session.precision,
        model_sha256=session.model_sha256,
        batch_size=config.batch_size,
        threads=session.threads,
        warmup_runs=timings.warmup_runs,
        runs=len(samples),
        samples_ms=tuple(samples.tolist()),
        **quantiles(samples),
        intervals=quantile_intervals(samples),
        mean_ms=float(samples.mean()),
        std_ms=float(samples.std(ddof=1)) if len(samples) > 1 else None,
        min_ms=float(samples.min()),
        throughput_per_s=config.batch_size * len(samples) * 1000 / total_ms if total_ms > 0 else None,
        load_ms=session.load_ms,
        first_run_ms=timings.first_ms,
        loop_overhead_ms=timings.overhead_ms,
        preempted_share=None if timings.preempted is None else float(timings.preempted.mean()),
        clean=_clean(timings),
        peak_memory_bytes=read_peak_memory_bytes(),
        model_bytes=session.model_path.stat().st_size,
        conditions=conditions,
        flags=tuple(warnings),
        warnings=tuple(warnings.values()),
        placement=None if session.placement is None else dict(session.placement),
    )


def _clean(timings: _Timings) -> CleanSamples | None:
    if timings.preempted is None or timings.preempted.all():
        return None
    kept = timings.samples_ms[~timings.preempted]
    return CleanSamples(runs=len(kept), mean_ms=float(kept.mean()), **quantiles(kept))


def _warnings(
    timings: _Timings, conditions: dict[str, dict[str, object]], device: DeviceInfo
) -> dict[str, str]:
    """Return the flags that apply, each with its sentence."""
    moved, variation = drift(timings.samples_ms) or 0.0, block_variation(timings.samples_ms) or 0.0
    preempted = 0.0 if timings.preempted is None else float(timings.preempted.mean())
    wall_s = float(timings.samples_ms.sum()) / 1000
    found = {
        "drift": f"The median moved by {moved:+.1%} from the first third of the runs to the last."
        if abs(moved) > _MOST_DRIFT
        else "",
        "noisy": f"The medians of five blocks of runs vary by {variation:.1%}."
        if variation > _MOST_VARIATION
        else "",
        "preempted": f"{preempted:.1%} of the runs were interrupted by other work; see the clean figures."
        if preempted > _MOST_PREEMPTED
        else "",
        "contended": _contention(conditions, wall_s),
        "throttled": _throttling(conditions),
        "emulated": "The processor is emulated: the times say nothing of the real device."
        if device.emulated
        else "",
    }
    return {flag: sentence for flag, sentence in found.items() if sentence}


def _contention(conditions: dict[str, dict[str, object]], wall_s: float) -> str:
    pressures = [_entry(state, "pressure", "some_avg10") for state in conditions.values()]
    pressure = max((value for value in pressures if isinstance(value, float)), default=0.0)
    if pressure > _MOST_PRESSURE:
        return f"Tasks waited for a CPU {pressure:.0f} % of the time; measure on a quiet machine."
    stolen = [conditions[moment]["stolen_s"] for moment in ("before", "after")]
    taken = stolen[1] - stolen[0] if isinstance(stolen[0], float) and isinstance(stolen[1], float) else 0.0
    return f"Another guest took {taken:.2f} s of CPU time." if taken > _MOST_STOLEN * wall_s else ""


def _throttling(conditions: dict[str, dict[str, object]]) -> str:
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
