"""The latency record: how long one batch takes, and the state of the machine.

One definition serves for writing, reading and printing. In JSON the groups of a report are flat (`schema.FLAT`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from edgedistill_deploy import wording as words
from edgedistill_deploy.hardware.device import DeviceInfo
from edgedistill_deploy.records.model import Int8Kernels, MeasuredModel
from edgedistill_deploy.records.schema import Record, Share, Time
from edgedistill_deploy.records.values import as_list, as_time
from edgedistill_deploy.records.writing import FLAT
from edgedistill_deploy.statistics.bimodal import Modes
from edgedistill_deploy.statistics.quantiles import OpenInterval

_SHOWN_CONDITIONS = ("governor", "power_mode", "clock", "temperature", "load", "pressure")


def as_samples(value: Any) -> tuple[float, ...]:
    """Accept a list of one or more times."""
    samples = tuple(map(as_time, as_list(value)))
    if not samples:
        raise ValueError("samples_ms must hold times, at least one")
    return samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The number of images and of threads of one run."""

    batch_size: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Times of the counted runs, each of one batch. `throughput_per_s` is images per second in these runs."""

    warmup_runs: int
    runs: int
    samples_ms: Annotated[tuple[float, ...], as_samples]
    p50_ms: Time
    p90_ms: Time
    p99_ms: Time
    intervals: Mapping[str, OpenInterval]
    mean_ms: Time
    std_ms: Time | None
    min_ms: Time
    throughput_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The time until the first answer, without the import of the runtime."""

    load_ms: Time
    first_run_ms: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSamples:
    """Statistics of the runs in which the scheduler did not take the CPU from this process; p99 may be too low."""

    runs: int
    p50_ms: Time
    p90_ms: Time
    p99_ms: Time
    mean_ms: Time


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The warm-up. `steady` is False if the time limit ended it, and None if there were too few runs to decide."""

    runs: int
    seconds: Time
    steady: bool | None
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """What disturbed the runs, and how doubtful it makes their times.

    `loop_overhead_ms` is the time of an empty call in the same loop; it is not subtracted. `preempted_share` is the
    share of runs in which the scheduler took the CPU away, and `clean` leaves these runs out. Both are None if the
    system does not count them. The counter is read every 5 ms, and the longest runs between two readings are taken as
    the interrupted ones. `conditions` is the state of the machine before and after. `flags` names the doubts,
    `warnings` explains them in sentences:

    unsteady   the warm-up reached its limit before the times had settled
    drift      the last third of the runs differs from the first by more than 5 %
    noisy      the medians of five consecutive blocks vary by more than 3 %
    bimodal    the runs have two usual times (`statistics.bimodal`)
    overhead   timing an empty call takes more than 1 % of the median
    preempted  other work interrupted more than 5 % of the runs
    contended  tasks waited for a CPU more than 10 % of the time, or another guest took more than 1 % of it
    throttled  the firmware or the CPU reports throttling
    emulated   the processor is emulated: the times say nothing about the real device
    unfused    the file mixes INT8 and FP16 and is computed as it is written, so the times say nothing about TensorRT
    saturating the INT8 kernels saturate on this processor (`int8_kernels`), so the answers are wrong
    fallback   some nodes run on another provider than requested; `placement` counts the nodes of each provider
    """

    loop_overhead_ms: Time
    preempted_share: Share | None
    clean: CleanSamples | None
    conditions: Mapping[str, Mapping[str, object]]
    flags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    warmup: WarmUp | None = None
    modes: Modes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Sizes. `peak_memory_bytes` is that of the whole process (`hardware.device.read_peak_memory_bytes`)."""

    peak_memory_bytes: int | None
    model_bytes: int
    engine_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport(Record):
    """A measurement. Printed, it fills one screen."""

    KIND = "latency"

    bundle: str
    model: MeasuredModel = field(metadata=FLAT)
    device: DeviceInfo  # in the document it replaces the device's name
    setting: Setting = field(metadata=FLAT)
    times: Times = field(metadata=FLAT)
    start: Start = field(metadata=FLAT)
    disturbance: Disturbance = field(metadata=FLAT)
    footprint: Footprint = field(metadata=FLAT)
    placement: Mapping[str, int] | None = None
    int8_kernels: Int8Kernels | None = None

    def __str__(self) -> str:
        return words.screen(f"Latency: {self.model}", _rows(self))


def _rows(report: LatencyReport) -> Iterator[tuple[str, str]]:
    times, disturbance, footprint = report.times, report.disturbance, report.footprint
    processor = report.device.cpu or report.device.architecture
    yield "machine", f"{processor}, {report.device.cpu_count} cores, {report.device.system}"
    yield "setting", f"batch {report.setting.batch_size}, threads {report.setting.threads}"
    for name in ("p50_ms", "p90_ms", "p99_ms"):
        low, high = map(words.milliseconds, times.intervals.get(name, (None, None)))
        yield name.removesuffix("_ms"), f"{words.milliseconds(getattr(times, name))}, interval {low} to {high}"
    yield "images", f"{words.quantity(times.throughput_per_s)} a second"
    yield "runs", f"{times.runs} after {times.warmup_runs} of warm-up, {_word_interruptions(disturbance)}"
    load, first = words.milliseconds(report.start.load_ms), words.milliseconds(report.start.first_run_ms)
    yield "start", f"load {load}, first run {first}"
    yield "memory", f"{words.size(footprint.peak_memory_bytes)} at most, the file {words.size(footprint.model_bytes)}"
    yield "conditions", _word_conditions(disturbance.conditions)
    yield "flags", ", ".join(disturbance.flags) or "none"
    yield "warnings", " ".join(disturbance.warnings)


def _word_interruptions(disturbance: Disturbance) -> str:
    clean = "" if disturbance.clean is None else f"; p99 undisturbed {words.milliseconds(disturbance.clean.p99_ms)}"
    return f"{words.percent(disturbance.preempted_share)} of them interrupted{clean}"


def _word_conditions(conditions: Mapping[str, Mapping[str, object]]) -> str:
    """Write the first value of each reading after the runs."""
    told = []
    for name in _SHOWN_CONDITIONS:
        value = conditions.get("after", {}).get(name)
        if isinstance(value, Mapping):
            value = " ".join(map(str, next(iter(value.items()), ())))
        told += [f"{name.replace('_', ' ')} {value}"] if value else []
    return ", ".join(told)
