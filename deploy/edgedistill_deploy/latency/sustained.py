"""The latency of images that arrive at a given rate, whether the model is ready or not.

A loop that starts a run when the last one ended never has a queue. Here the arrivals are planned first, and the latency
of a batch is the time from its planned arrival to its completion. So a slow run also counts for the batches that wait
behind it (without that, Gil Tene calls it "coordinated omission").
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import PlainRecord
from edgedistill_deploy.statistics.quantiles import OpenInterval, Samples, quantile_intervals, quantiles

Arrivals = Literal["poisson", "constant"]
ARRIVALS: tuple[Arrivals, ...] = get_args(Arrivals)

_NS_PER_S = 1e9
_NS_PER_MS = 1e6
_MOST_ARRIVALS = 200_000
_FEWEST_EXPECTED = 5
_FULL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class SustainedReport(PlainRecord):
    """A sustained run; the images of a batch arrive together.

    `latency_ms` is from arrival to completion, and `p50_ms`, `p90_ms`, `p99_ms` and `intervals` are of it. `wait_...`
    is the part before the run began. `utilisation` is the share of the time in which the model ran. `offered_load` is
    the rate times the mean run; from 1 on, the queue grows without end. `backlog` batches had arrived and were not done
    at the end. `keeps_up` is False when the load is above 0.95 or the wait grew all the time; `warning` then says so.
    """

    rate_per_s: float
    arrivals: Arrivals
    seed: int
    batch_size: int
    arrived: int
    completed: int
    backlog: int
    seconds: float
    latency_ms: tuple[float, ...]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    intervals: dict[str, OpenInterval]
    run_p50_ms: float
    wait_p50_ms: float
    wait_p99_ms: float
    wait_mean_ms: float
    utilisation: float
    offered_load: float
    keeps_up: bool
    warning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What arrives: images in batches, with exponential gaps ("poisson") or equal ones ("constant")."""

    rate_per_s: float
    batch_size: int = 1
    arrivals: Arrivals = "poisson"
    seed: int = 0
    duration_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s < float("inf"):
            raise UsageError(f"rate is {self.rate_per_s}; it must be more than 0 images a second, and finite.")
        if self.arrivals not in ARRIVALS:
            raise UsageError(f"There are no arrivals {self.arrivals!r}.{nearest_names(self.arrivals, ARRIVALS)}")
        expected = self.rate_per_s * self.duration_s / self.batch_size
        if expected < _FEWEST_EXPECTED:
            raise UsageError(
                f"At {self.rate_per_s:g} images a second {expected:.2g} batches arrive in {self.duration_s:g} s; for a "
                f"measurement give --duration {_FEWEST_EXPECTED * self.batch_size / self.rate_per_s:.3g} or more."
            )

    def planned_ns(self) -> Samples:
        """Return the moments of arrival in ns from the start, at least one and at most 200 000."""
        gap_ns = self.batch_size / self.rate_per_s * _NS_PER_S
        count = min(int(2 * self.duration_s * _NS_PER_S / gap_ns) + 100, _MOST_ARRIVALS)
        moments: Samples
        if self.arrivals == "poisson":
            moments = np.cumsum(np.random.default_rng(self.seed).exponential(gap_ns, count), dtype=np.float64)
        else:
            moments = gap_ns * np.arange(count, dtype=np.float64)
        within = moments[moments < self.duration_s * _NS_PER_S]
        return within if len(within) else moments[:1]


def measure_sustained(
    run: Callable[[], object], load: Load, clock: Clock = MACHINE_CLOCK, progress: Progress = silent
) -> SustainedReport:
    """Run once for every arrival, one after another, until the arrivals are done or the time is over.

    The backlog at the end has no latency among the samples, so they are too good when the model does not keep up.
    """
    planned = load.planned_ns()
    began, limit_ns = clock.now_ns(), max(load.duration_s * _NS_PER_S, float(planned[0]) + 1)
    starts: list[int] = []
    ends: list[int] = []
    for moment in planned:
        if clock.now_ns() - began < moment:
            clock.wait_until(began + int(moment))
        started = clock.now_ns() - began
        if started >= limit_ns and starts:
            break
        run()
        starts.append(started)
        ends.append(clock.now_ns() - began)
        if len(starts) % 16 == 0:
            progress(int(ends[-1] / _NS_PER_MS), int(limit_ns / _NS_PER_MS))
    return _report(load, planned, np.asarray(starts, np.float64), np.asarray(ends, np.float64))


def _report(load: Load, planned: Samples, starts: Samples, ends: Samples) -> SustainedReport:
    arrived = planned[: len(starts)]
    latency, wait = (ends - arrived) / _NS_PER_MS, np.maximum(starts - arrived, 0.0) / _NS_PER_MS
    runs = (ends - starts) / _NS_PER_MS
    seconds, run_ms = float(ends[-1]) / _NS_PER_S, float(runs.mean())
    offered, backlog = load.rate_per_s / load.batch_size * run_ms / 1000, len(planned) - len(starts)
    keeps_up = offered <= _FULL and not _grows(wait, runs)
    return SustainedReport(
        rate_per_s=load.rate_per_s,
        arrivals=load.arrivals,
        seed=load.seed,
        batch_size=load.batch_size,
        arrived=len(planned),
        completed=len(starts),
        backlog=backlog,
        seconds=seconds,
        latency_ms=tuple(latency.tolist()),
        **quantiles(latency),
        intervals=quantile_intervals(latency),
        run_p50_ms=float(np.median(runs)),
        wait_p50_ms=float(np.median(wait)),
        wait_p99_ms=float(np.quantile(wait, 0.99)),
        wait_mean_ms=float(wait.mean()),
        utilisation=min(1.0, float(runs.sum()) / 1000 / seconds) if seconds > 0 else 0.0,
        offered_load=offered,
        keeps_up=keeps_up,
        warning="" if keeps_up else _warning(load, backlog, run_ms),
    )


def _grows(wait: Samples, runs: Samples) -> bool:
    """Say whether the wait grew in each third of the batches, to more than ten runs: the queue was never empty."""
    if len(wait) < 30:
        return False
    first, second, third = (float(part.mean()) for part in np.array_split(wait, 3))
    return first < second < third and third > 10 * float(np.median(runs)) and float(wait[-len(wait) // 3 :].min()) > 0


def _warning(load: Load, backlog: int, run_ms: float) -> str:
    most = load.batch_size * 1000 / run_ms if run_ms > 0 else float("inf")
    left = f" {backlog} batches were left over;" if backlog else ""
    return (
        f"The model does not keep up with {load.rate_per_s:g} images a second:{left} it takes {most:.3g} at most, so "
        "the waiting grows for as long as they come. The times below are too good; lower the rate."
    )
