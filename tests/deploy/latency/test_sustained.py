from collections.abc import Iterable
from itertools import repeat

import numpy as np
import pytest

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.latency.sustained import Load, SustainedReport, measure_sustained
from edgedistill_deploy.progress import Progress, silent
from played_clock import PlayedClock

MS = 1_000_000


def sustain(runs_ms: Iterable[float], load: Load, progress: Progress = silent) -> SustainedReport:
    """Measure on a clock that only runs and waits move; a run takes the next of the given times."""
    clock, times_ms = PlayedClock(at_ns=12_345), iter(runs_ms)
    return measure_sustained(lambda: clock.sleep(next(times_ms) / 1000), load, clock, progress)


def test_images_that_come_more_slowly_than_the_model_runs_do_not_wait() -> None:
    report = sustain(repeat(2.0), Load(rate_per_s=100, arrivals="constant", duration_s=5))
    assert (report.arrived, report.completed, report.backlog) == (500, 500, 0)
    assert (report.wait_mean_ms, report.wait_p99_ms) == (0, 0)
    assert report.p50_ms == report.p99_ms == pytest.approx(2.0)
    assert report.utilisation == pytest.approx(0.2, abs=0.001)
    assert report.offered_load == pytest.approx(0.2)
    assert (report.keeps_up, report.warning) == (True, "")


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_follows_the_theory_of_queues(load: float) -> None:
    """Poisson arrivals and runs of equal length, M/D/1: the mean wait is load / (2 (1 - load)) runs
    (Pollaczek-Khinchine)."""
    waits = [
        sustain(repeat(2.0), Load(rate_per_s=500 * load, duration_s=60, seed=seed)).wait_mean_ms for seed in range(4)
    ]
    assert np.mean(waits) == pytest.approx(2.0 * load / (2 * (1 - load)), rel=0.12)


def test_one_slow_run_is_charged_to_all_that_wait_behind_it() -> None:
    runs = [1.0] * 10 + [100.0] + [1.0] * 100
    report = sustain(runs, Load(rate_per_s=100, arrivals="constant", duration_s=1))
    latency = np.array(report.latency_ms)
    assert latency[10] == pytest.approx(100)
    assert latency[11] == pytest.approx(91)
    assert np.sum(latency > 10) == 10
    assert report.run_p50_ms == pytest.approx(1.0)


def test_too_many_images_are_reported_as_too_many() -> None:
    report = sustain(repeat(20.0), Load(rate_per_s=100, arrivals="constant", duration_s=2))
    assert (report.keeps_up, report.arrived, report.completed, report.backlog) == (False, 200, 100, 100)
    assert report.utilisation == pytest.approx(1.0)
    assert report.offered_load == pytest.approx(2.0)
    assert report.warning.startswith("The model does not keep up with 100 images a second: 100 batches were left over;")
    assert "it takes 50 at most" in report.warning


def test_a_queue_that_grows_though_the_load_seemed_light_is_noticed() -> None:
    slowing = (1.0 if run < 50 else 10.9 for run in range(10_000))
    report = sustain(slowing, Load(rate_per_s=100, arrivals="constant", duration_s=8))
    assert report.keeps_up is False


def test_batches_arrive_at_the_rate_of_their_images() -> None:
    report = sustain(repeat(3.0), Load(rate_per_s=100, batch_size=4, arrivals="constant", duration_s=4))
    assert report.completed == 100
    assert report.offered_load == pytest.approx(25 * 0.003)


def test_arrivals_repeat_for_a_seed_and_have_the_gaps_they_should() -> None:
    load = Load(rate_per_s=1000, duration_s=20, seed=3)
    moments = load.planned_ns()
    assert np.array_equal(moments, load.planned_ns())
    assert not np.array_equal(moments, Load(rate_per_s=1000, duration_s=20, seed=4).planned_ns())
    gaps = np.diff(moments) / MS
    assert gaps.mean() == pytest.approx(1.0, rel=0.03)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)
    assert len(moments) == pytest.approx(20_000, rel=0.03)


def test_progress_is_told_now_and_then() -> None:
    told: list[tuple[int, int]] = []
    sustain(
        repeat(1.0),
        Load(rate_per_s=100, arrivals="constant", duration_s=1),
        lambda done, total, note="": told.append((done, total)),
    )
    assert told == [(10 * batch * 16 - 9, 1000) for batch in range(1, 7)]


def test_a_real_clock_is_waited_for() -> None:
    report = measure_sustained(lambda: None, Load(rate_per_s=200, arrivals="constant", duration_s=0.1))
    assert report.completed >= 5
    assert report.seconds >= 0.02
    assert report.wait_p50_ms < 50


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(UsageError, match=r"rate is .*; it must be more than 0 images a second"):
        Load(rate_per_s=rate)


def test_a_rate_of_which_nothing_arrives_is_refused() -> None:
    with pytest.raises(UsageError, match=r"At 0.2 images a second 2 batches arrive in 10 s; .* --duration 25 or more"):
        Load(rate_per_s=0.2)
