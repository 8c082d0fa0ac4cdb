"""How long one batch takes here, with every sample kept and the state of the machine beside it.

It times `Session.run` alone, on the one clock of this package (`clock`): the batch is prepared before, and what comes out is the
time from numpy arrays in to numpy arrays out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.hardware.device import (
    DeviceInfo,
    read_conditions,
    read_device,
    read_involuntary_switches,
    read_peak_memory_bytes,
)
from edgedistill_deploy.latency._flags import warnings_of_machine, warnings_of_samples
from edgedistill_deploy.latency._warm_up import WarmUp, warm_up
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import SCHEMA, plain, record_path
from edgedistill_deploy.runtimes.int8_kernels import Int8Kernels, saturation_sentence
from edgedistill_deploy.runtimes.providers import nodes_elsewhere
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.bimodal import Modes, find_modes
from edgedistill_deploy.statistics.quantiles import OpenInterval, Samples, quantile_intervals, quantiles

_NS_PER_MS = 1e6
_EMPTY_CALLS = 1000
_PROGRESS_EVERY_NS = 100_000_000
_ASK_EVERY_NS = 5_000_000
_SHORT_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyConfig:
    """How long to measure: warm up for `warmup_s` and `warmup_runs`, then for `duration_s` and `min_runs`, up to `max_runs`.

    The warm-up goes on until the times are steady (`_warm_up`), up to `warmup_limit_s`; None is ten times `warmup_s`.
    """

    batch_size: int = 1
    warmup_s: float = 1.0
    warmup_runs: int = 10
    warmup_limit_s: float | None = None
    duration_s: float = 10.0
    min_runs: int = 50
    max_runs: int = 200_000

    def __post_init__(self) -> None:
        for name in ("batch_size", "min_runs", "max_runs"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        for name in ("warmup_s", "warmup_runs", "warmup_limit_s", "duration_s"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise UsageError(f"{name} is {value}; it must be 0 or more, and finite.")
        if self.min_runs > self.max_runs:
            raise UsageError(f"min_runs is {self.min_runs}, more than max_runs, which is {self.max_runs}.")


DEFAULT_CONFIG = LatencyConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSamples:
    """Statistics of the runs during which the scheduler took the CPU away from nobody in this process; p99 may err low."""

    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """A measurement; `to_json` is the record. Times are for one batch of `batch_size` images.

    `throughput_per_s` is images per second of these sequential runs. `peak_memory_bytes` is the whole process's
    (`hardware.device.read_peak_memory_bytes`). `loop_overhead_ms` is what an empty call costs in the same loop, and is not subtracted.
    `preempted_share` is that of the runs in which the scheduler took the CPU away, and `clean` leaves these out; both are None where
    the system does not count. It is asked every 5 ms, and of the runs between, the longest are taken for the interrupted ones.
    `flags` names what makes the figures
    doubtful, `warnings` says it in sentences:

    unsteady   the warm-up reached its limit before the times had settled
    drift      the last third of the runs differs from the first by more than 5 %
    noisy      the medians of five consecutive blocks vary by more than 3 %
    bimodal    the runs have two usual times (`statistics.bimodal`)
    overhead   timing an empty call takes more than 1 % of the median
    preempted  more than 5 % of the runs were interrupted by other work
    contended  tasks waited for a CPU more than 10 % of the time, or another guest took more than 1 % of it
    throttled  the firmware or the CPU reports throttling
    emulated   the processor is emulated: the times say nothing of the real device
    saturating the INT8 kernels saturate on this processor (`int8_kernels`): the answers are wrong, whatever the time
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
    warmup: WarmUp | None = None
    modes: Modes | None = None
    engine_bytes: int | None = None
    int8_kernels: Int8Kernels | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record: kind "latency", schema 1, plain JSON values without NaN."""
        return {"kind": "latency", "schema": SCHEMA, **plain(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Timings:
    first_ms: float
    warmed: WarmUp
    samples_ms: Samples
    preempted: NDArray[np.bool_] | None
    overhead_ms: float


def measure_latency(
    session: Session,
    images: NDArray[np.uint8],
    config: LatencyConfig = DEFAULT_CONFIG,
    clock: Clock = MACHINE_CLOCK,
    progress: Progress = silent,
) -> LatencyReport:
    """Time the session on batches tiled from `images`, uint8 (n, H, W, 3).

    `progress` is called between runs, at most ten times a second, with milliseconds done and
    planned. For figures that can be compared start a fresh process for every configuration.
    """
    feeds = {"image": tiled(images, config.batch_size)}
    before = read_conditions()
    timings = _time(lambda: session.run(feeds), config, clock, progress)
    conditions = {"before": before, "after": read_conditions()}
    return _report(session, config, timings, conditions)


def write_latency(bundle: Bundle, report: LatencyReport) -> Path:
    """Write the record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run; return its path."""
    record = report.to_json()
    path = record_path(bundle.path, record)
    write_json(path, record)
    return path


def tiled(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """Return a batch of so many images, uint8 (N, H, W, 3), taken in turn. Raises DataError when there is none."""
    if len(images) == 0:
        raise DataError("Measuring latency needs at least one image and got none.")
    return np.ascontiguousarray(images[np.arange(batch_size) % len(images)])


def _time(run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress) -> _Timings:
    first_ns = _run_once(run, clock)
    limit_s = 10 * config.warmup_s if config.warmup_limit_s is None else config.warmup_limit_s
    warmed = warm_up(run, clock, least_runs=config.warmup_runs, least_s=config.warmup_s, most_s=limit_s)
    samples, preempted = _collect(run, config, clock, progress)
    return _Timings(
        first_ms=first_ns / _NS_PER_MS,
        warmed=warmed,
        samples_ms=np.asarray(samples, dtype=np.float64) / _NS_PER_MS,
        preempted=None if preempted is None else np.asarray(preempted, dtype=np.bool_),
        overhead_ms=float(np.median([_run_once(_nothing, clock) for _ in range(_EMPTY_CALLS)])) / _NS_PER_MS,
    )


def _run_once(run: Callable[[], object], clock: Clock) -> int:
    began = clock.now_ns()
    run()
    return clock.now_ns() - began


def _nothing() -> None:
    return None


def _collect(
    run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress
) -> tuple[list[int], list[bool] | None]:
    """Time runs until the time and the number are reached; their ns, and which were preempted (None where nobody counts).

    The system is asked for preemptions, and progress told, every 5 ms only: asking after each run slowed the next by 1 to 10 % on
    a virtual machine, as caches fill again. A short run after a question is not counted for that reason.
    """
    samples: list[int] = []
    preempted: list[bool] = []
    began = shown = asked = clock.now_ns()
    planned_ns = config.duration_s * 1e9
    switches = read_involuntary_switches()
    ended = False
    while not ended:
        samples.append(_run_once(run, clock))
        now = clock.now_ns()
        ended = (now - began >= planned_ns and len(samples) >= config.min_runs) or len(
            samples
        ) == config.max_runs
        if not ended and now - asked < _ASK_EVERY_NS:
            continue
        before, switches = switches, read_involuntary_switches()
        count = None if switches is None or before is None else switches - before
        preempted += _interrupted(samples[len(preempted) :], count or 0)
        if now - shown >= _PROGRESS_EVERY_NS:
            shown = now
            progress(int(min(now - began, planned_ns) / _NS_PER_MS), int(planned_ns / _NS_PER_MS))
        if not ended and samples[-1] < _SHORT_NS:
            run()
        asked = clock.now_ns()
    return samples, None if switches is None else preempted


def _interrupted(block: list[int], count: int) -> list[bool]:
    """Take the longest runs of a block for those that were interrupted, as many as there were interruptions."""
    longest = set(np.argsort(block)[::-1][:count].tolist())
    return [index in longest for index in range(len(block))]


def _report(
    session: Session, config: LatencyConfig, timings: _Timings, conditions: dict[str, dict[str, object]]
) -> LatencyReport:
    samples, device = timings.samples_ms, read_device()
    total_ms = float(samples.sum())
    modes = find_modes(samples)
    found = {
        **warnings_of_samples(samples, modes, timings.warmed, timings.overhead_ms),
        **warnings_of_machine(samples, _share(timings.preempted), conditions, device),
    }
    warnings = {flag: sentence for flag, sentence in found.items() if sentence}
    elsewhere = nodes_elsewhere(session.provider, session.placement)
    if elsewhere:
        warnings["fallback"] = elsewhere
    if session.int8_kernels == "saturating":
        warnings["saturating"] = saturation_sentence()
    return LatencyReport(
        bundle=session.model_path.resolve().parent.name,
        device=device,
        runtime=session.runtime,
        provider=session.provider,
        precision=session.precision,
        model_sha256=session.model_sha256,
        batch_size=config.batch_size,
        threads=session.threads,
        warmup_runs=timings.warmed.runs,
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
        preempted_share=_share(timings.preempted),
        clean=_clean(timings),
        peak_memory_bytes=read_peak_memory_bytes(),
        model_bytes=session.model_path.stat().st_size,
        conditions=conditions,
        flags=tuple(warnings),
        warnings=tuple(warnings.values()),
        placement=None if session.placement is None else dict(session.placement),
        warmup=timings.warmed,
        modes=modes,
        engine_bytes=_engine_bytes(session),
        int8_kernels=session.int8_kernels,
    )


def _share(marked: NDArray[np.bool_] | None) -> float | None:
    return None if marked is None else float(marked.mean())


def _clean(timings: _Timings) -> CleanSamples | None:
    if timings.preempted is None or timings.preempted.all():
        return None
    kept = timings.samples_ms[~timings.preempted]
    return CleanSamples(runs=len(kept), mean_ms=float(kept.mean()), **quantiles(kept))


def _engine_bytes(session: Session) -> int | None:
    """Return the size of the engine that the runtime built; None where it runs the model file itself."""
    record = session.engine_record
    engine = record.get("engine") if record is not None else None
    size = engine.get("bytes") if isinstance(engine, dict) else None
    return size if isinstance(size, int) else None
