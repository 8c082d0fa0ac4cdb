"""The time of one batch on this machine, with every sample and the state of the machine.

Only `Session.run` is timed, on the package's one clock (`clock`): from numpy arrays in to numpy arrays out. The batch
is prepared before that.
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
from edgedistill_deploy.latency._warm_up import time_run, warm_up
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
from edgedistill_deploy.runtimes.int8_kernels import saturation_sentence, unfused_sentence
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
    """How long to measure.

    The warm-up takes `warmup_s` and `warmup_runs` at least, and goes on until the times are steady (`_warm_up`), up to
    `warmup_limit_s`; None is ten times `warmup_s`. The measurement takes `duration_s` and `min_runs` at least, and
    `max_runs` at most.
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

    `progress` is called between runs, at most ten times a second, with milliseconds done and planned. Figures can be
    compared only if each configuration was measured in a fresh process.
    """
    feeds = {"image": fill_batch(images, config.batch_size)}
    before = read_conditions()
    timings = _time(lambda: session.run(feeds), config, clock, progress)
    return _report(session, config, timings, {"before": before, "after": read_conditions()})


def write_latency(bundle: Bundle, report: LatencyReport) -> Path:
    """Write the record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run."""
    record = report.to_json()
    path = record_path(bundle.path, record)
    write_json(path, record)
    return path


def fill_batch(images: NDArray[np.uint8], batch_size: int) -> NDArray[np.uint8]:
    """Return a batch (N, H, W, 3) of the images, repeated in order. Raises DataError when there is none."""
    if len(images) == 0:
        raise DataError("Measuring latency needs at least one image and got none.")
    return np.ascontiguousarray(images[np.arange(batch_size) % len(images)])


def _time(run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress) -> _Timings:
    first_ns = time_run(run, clock)
    warmed = warm_up(run, clock, least_runs=config.warmup_runs, least_s=config.warmup_s, most_s=config.warmup_limit_s)
    samples, preempted = _collect(run, config, clock, progress)
    return _Timings(
        first_ms=first_ns / _NS_PER_MS,
        warmed=warmed,
        samples_ms=np.asarray(samples, dtype=np.float64) / _NS_PER_MS,
        preempted=None if preempted is None else np.asarray(preempted, dtype=np.bool_),
        overhead_ms=float(np.median([time_run(lambda: None, clock) for _ in range(_EMPTY_CALLS)])) / _NS_PER_MS,
    )


def _collect(
    run: Callable[[], object], config: LatencyConfig, clock: Clock, progress: Progress
) -> tuple[list[int], list[bool] | None]:
    """Time runs until the time and the number of runs are reached; return their ns, and which were preempted.

    The second is None where the system does not count preemptions. The system is asked, and progress is reported, only
    every 5 ms: asking after each run slowed the next one by 1 to 10 % on a virtual machine, because the caches had to
    fill again. For the same reason a short run after a question is followed by one that is not counted.
    """
    samples: list[int] = []
    preempted: list[bool] = []
    began = shown = asked = clock.now_ns()
    planned_ns = config.duration_s * 1e9
    switches = read_involuntary_switches()
    ended = False
    while not ended:
        samples.append(time_run(run, clock))
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
    """Mark the `count` longest runs of a block as interrupted."""
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
    """Return each flag that applies, with its sentence."""
    samples = timings.samples_ms
    found = {
        **dict(warnings_of_samples(samples, modes, timings.warmed, timings.overhead_ms)),
        **warnings_of_machine(samples, _share(timings.preempted), conditions, device),
        "fallback": nodes_elsewhere(session.provider, session.placement),
        "saturating": saturation_sentence() if session.int8_kernels == "saturating" else "",
        "unfused": unfused_sentence(session.model_path.name) if session.int8_kernels == "unfused" else "",
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
    engine = (session.engine_record or {}).get("engine")
    size = engine.get("bytes") if isinstance(engine, dict) else None
    return size if isinstance(size, int) else None
