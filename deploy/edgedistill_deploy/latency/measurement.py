"""How long one batch takes here, with every sample kept and the state of the machine beside it.

It times `Session.run` alone, on the one clock of this package (`clock`): the batch is prepared before, and what comes
out is the time from numpy arrays in to numpy arrays out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
from edgedistill_deploy.latency._flags import Conditions, warnings_of_machine, warnings_of_samples
from edgedistill_deploy.latency._warm_up import warm_up
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.latency import (
    CleanSamples,
    Disturbance,
    Footprint,
    LatencyReport,
    Setting,
    Start,
    Times,
    WarmUp,
)
from edgedistill_deploy.records.writing import record_path
from edgedistill_deploy.runtimes.int8_kernels import saturation_sentence
from edgedistill_deploy.runtimes.providers import nodes_elsewhere
from edgedistill_deploy.runtimes.session import Session, identify_model
from edgedistill_deploy.statistics.bimodal import Modes, find_modes
from edgedistill_deploy.statistics.quantiles import Samples, quantile_intervals, quantiles

_NS_PER_MS = 1e6
_EMPTY_CALLS = 1000
_PROGRESS_EVERY_NS = 100_000_000
_ASK_EVERY_NS = 5_000_000
_SHORT_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyConfig:
    """How long to measure: warm up for `warmup_s` and `warmup_runs`, then for `duration_s` and `min_runs`, up to
    `max_runs`.

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
    feeds = {"image": fill_batch(images, config.batch_size)}
    before = read_conditions()
    timings = _time(lambda: session.run(feeds), config, clock, progress)
    conditions = {"before": before, "after": read_conditions()}
    return _report(session, config, timings, conditions)


def write_latency(bundle: Bundle, report: LatencyReport) -> Path:
    """Write the record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run; return its
    path."""
    record = report.to_json()
    path = record_path(bundle.path, record)
    write_json(path, record)
    return path


def fill_batch(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
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
    """Time runs until the time and the number are reached; their ns, and which were preempted (None where nobody
    counts).

    The system is asked for preemptions, and progress told, every 5 ms only: asking after each run slowed the next by 1
    to 10 % on a virtual machine, as caches fill again. A short run after a question is not counted for that reason.
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
        ended = (now - began >= planned_ns and len(samples) >= config.min_runs) or len(samples) == config.max_runs
        if not ended and now - asked < _ASK_EVERY_NS:
            continue
        before, switches = switches, read_involuntary_switches()
        count = None if switches is None or before is None else switches - before
        preempted += _find_interrupted(samples[len(preempted) :], count or 0)
        if now - shown >= _PROGRESS_EVERY_NS:
            shown = now
            progress(int(min(now - began, planned_ns) / _NS_PER_MS), int(planned_ns / _NS_PER_MS))
        if not ended and samples[-1] < _SHORT_NS:
            run()
        asked = clock.now_ns()
    return samples, None if switches is None else preempted


def _find_interrupted(block: list[int], count: int) -> list[bool]:
    """Take the longest runs of a block for those that were interrupted, as many as there were interruptions."""
    longest = set(np.argsort(block)[::-1][:count].tolist())
    return [index in longest for index in range(len(block))]


def _report(session: Session, config: LatencyConfig, timings: _Timings, conditions: Conditions) -> LatencyReport:
    device, modes = read_device(), find_modes(timings.samples_ms)
    warnings = _warnings(session, timings, conditions, device, modes)
    return LatencyReport(
        bundle=session.model_path.resolve().parent.name,
        model=identify_model(session, device.name),
        device=device,
        setting=Setting(batch_size=config.batch_size, threads=session.threads),
        times=_sum_up(timings, config.batch_size),
        start=Start(load_ms=session.load_ms, first_run_ms=timings.first_ms),
        disturbance=Disturbance(
            loop_overhead_ms=timings.overhead_ms,
            preempted_share=_share(timings.preempted),
            clean=_clean(timings),
            conditions=conditions,
            flags=tuple(warnings),
            warnings=tuple(warnings.values()),
            warmup=timings.warmed,
            modes=modes,
        ),
        footprint=Footprint(
            peak_memory_bytes=read_peak_memory_bytes(),
            model_bytes=session.model_path.stat().st_size,
            engine_bytes=_engine_bytes(session),
        ),
        placement=None if session.placement is None else dict(session.placement),
        int8_kernels=session.int8_kernels,
    )


def _warnings(
    session: Session, timings: _Timings, conditions: Conditions, device: DeviceInfo, modes: Modes | None
) -> dict[str, str]:
    """Return what makes the times doubtful: each flag with its sentence."""
    samples = timings.samples_ms
    found = {
        **warnings_of_samples(samples, modes, timings.warmed, timings.overhead_ms),
        **warnings_of_machine(samples, _share(timings.preempted), conditions, device),
        "fallback": nodes_elsewhere(session.provider, session.placement),
        "saturating": saturation_sentence() if session.int8_kernels == "saturating" else "",
    }
    return {flag: sentence for flag, sentence in found.items() if sentence}


def _sum_up(timings: _Timings, batch_size: int) -> Times:
    samples = timings.samples_ms
    total_ms = float(samples.sum())
    return Times(
        warmup_runs=timings.warmed.runs,
        runs=len(samples),
        samples_ms=tuple(samples.tolist()),
        **quantiles(samples),
        intervals=quantile_intervals(samples),
        mean_ms=float(samples.mean()),
        std_ms=float(samples.std(ddof=1)) if len(samples) > 1 else None,
        min_ms=float(samples.min()),
        throughput_per_s=batch_size * len(samples) * 1000 / total_ms if total_ms > 0 else None,
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
