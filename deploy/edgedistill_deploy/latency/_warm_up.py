"""The warm-up: runs until the times are steady, by a rule that the record states."""

from collections.abc import Callable

import numpy as np

from edgedistill_deploy.clock import Clock
from edgedistill_deploy.records.latency import WarmUp
from edgedistill_deploy.statistics.quantiles import Samples

STEADY_WITHIN = 0.05
_FEWEST_IN_QUARTER = 10
_CHECK_AFTER = 1.1  # the next check comes after this many times the runs of the last one


def warm_up(
    run: Callable[[], object], clock: Clock, *, least_runs: int, least_s: float, most_s: float | None
) -> WarmUp:
    """Run for the least time and number of runs, then until steady, but no longer than `most_s` after the start.

    Steady means: the medians of the third and of the fourth quarter of the runs so far lie within 5 % of each other,
    and a quarter has ten runs or more. The quarters grow with the warm-up, so a slow start soon lies in the first half.
    `most_s` None is ten times `least_s`. The first run of the caller counts as one of the runs.
    """
    most_s = 10 * least_s if most_s is None else most_s
    began = clock.now_ns()
    times: list[int] = []
    while len(times) + 1 < least_runs or clock.now_ns() < began + least_s * 1e9:
        times.append(time_run(run, clock))
    while (steady := is_steady(np.asarray(times, np.float64))) is not True and clock.now_ns() < began + most_s * 1e9:
        unchecked = int(len(times) * _CHECK_AFTER) + 1
        while len(times) < unchecked and clock.now_ns() < began + most_s * 1e9:
            times.append(time_run(run, clock))
    return WarmUp(
        runs=len(times) + 1,
        seconds=(clock.now_ns() - began) / 1e9,
        steady=steady,
        rule=f"at least {least_runs} runs and {least_s:g} s, then until the medians of the third and the fourth "
        f"quarter lie within {STEADY_WITHIN:.0%} of each other, for {most_s:g} s at most",
    )


def is_steady(times: Samples) -> bool | None:
    """Say whether the times so far are steady; None for fewer than 40."""
    quarter = len(times) // 4
    if quarter < _FEWEST_IN_QUARTER:
        return None
    third, fourth = np.median(times[-2 * quarter : -quarter]), np.median(times[-quarter:])
    return bool(abs(fourth - third) <= STEADY_WITHIN * third)


def time_run(run: Callable[[], object], clock: Clock) -> int:
    """Run once and return the time in ns."""
    began = clock.now_ns()
    run()
    return clock.now_ns() - began
