import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, count, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, final

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.hardware.device import DeviceInfo, read_device
from edgedistill_deploy.latency import measurement
from edgedistill_deploy.latency.measurement import LatencyConfig, measure_latency, write_latency
from edgedistill_deploy.records.latency import LatencyReport
from edgedistill_deploy.records.model import Int8Kernels
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.session import TensorSpec
from played_clock import PlayedClock
from reference import measured_models
from reference.measured_bundles import bundle_of

SCHEMA = json.loads((Path(__file__).parents[1] / "schemas" / "latency.json").read_text(encoding="utf-8"))
IMAGES = measured_models.images_of([0, 1, 2])
QUIET: dict[str, object] = {
    "clock": None,
    "governor": None,
    "temperature": None,
    "throttling": None,
    "power_mode": None,
    "load": None,
    "pressure": None,
    "stolen_s": None,
    "memory_available_bytes": None,
}
MS = 1_000_000


@final
class FakeSession:
    """A session whose runs take the given milliseconds on a clock that nothing else moves."""

    inputs = (TensorSpec(name="image", shape=(None, 4, 4, 3), dtype="uint8"),)
    outputs = (TensorSpec(name="logits", shape=(None, 3), dtype="float32"),)
    runtime, precision, provider, threads, load_ms = "onnxruntime", "fp32", "cpu", 1, 3.5
    placement: Mapping[str, int] | None = None
    engine_record: Mapping[str, Any] | None = None
    int8_kernels: Int8Kernels | None = None

    def __init__(self, model_path: Path, runs_ms: Iterator[float]) -> None:
        self.model_path = model_path
        self.model_sha256 = hashlib.sha256(model_path.read_bytes()).hexdigest()
        self.clock = PlayedClock()
        self.runs_ms = runs_ms
        self.batches: list[NDArray[np.uint8]] = []

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        self.batches.append(feeds["image"])
        self.clock.sleep(next(self.runs_ms) / 1000)
        return {"logits": np.zeros((len(feeds["image"]), 3), dtype=np.float32)}

    def close(self) -> None:
        return None

    def trace_nodes(self, *given: object, **named: object) -> None:
        return None

    def __enter__(self) -> "FakeSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "read_conditions", lambda: dict(QUIET))
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: 0)


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., tuple[FakeSession, LatencyReport]]:
    model = tmp_path / "model.fp32.onnx"
    model.write_bytes(b"x" * 1234)

    def run(
        runs_ms: Iterator[float], images: NDArray[np.uint8] = IMAGES, **settings: Any
    ) -> tuple[FakeSession, LatencyReport]:
        session = FakeSession(model, runs_ms)
        chosen = {"warmup_s": 0.0, "warmup_runs": 1, "duration_s": 0.0, "min_runs": 50, **settings}
        return session, measure_latency(session, images, LatencyConfig(**chosen), session.clock)

    return run


Measure = Callable[..., tuple[FakeSession, LatencyReport]]


def test_every_sample_is_kept_and_summed_up(measure: Measure) -> None:
    runs = [float(value) for value in range(1, 101)]
    _, report = measure(chain([900.0], runs), min_runs=100, batch_size=4)
    assert report.start.first_run_ms == 900.0
    assert report.times.samples_ms == tuple(runs)
    assert (report.times.runs, report.times.warmup_runs) == (100, 1)
    assert report.times.p50_ms == pytest.approx(np.percentile(runs, 50))
    assert report.times.p90_ms == pytest.approx(np.percentile(runs, 90))
    assert report.times.p99_ms == pytest.approx(np.percentile(runs, 99))
    assert report.times.mean_ms == pytest.approx(50.5)
    assert report.times.std_ms == pytest.approx(np.std(runs, ddof=1))
    assert report.times.min_ms == 1.0
    assert report.times.throughput_per_s == pytest.approx(4 * 100 / 5.050)
    assert (report.start.load_ms, report.footprint.model_bytes, report.setting.threads) == (3.5, 1234, 1)


def test_an_empty_call_costs_nothing_on_a_clock_that_stands_still(measure: Measure) -> None:
    _, report = measure(repeat(1.0))
    assert report.disturbance.loop_overhead_ms == 0.0


def test_warm_up_ends_when_both_time_and_runs_are_reached(measure: Measure) -> None:
    least = {"warmup_limit_s": 0.0}
    assert measure(repeat(10.0), warmup_s=0.1, warmup_runs=3, **least)[1].times.warmup_runs == 11
    assert measure(repeat(10.0), warmup_s=0.1, warmup_runs=30, **least)[1].times.warmup_runs == 30
    assert measure(repeat(1000.0), warmup_s=0.1, warmup_runs=1, **least)[1].times.warmup_runs == 2


def test_warm_up_goes_on_until_a_slow_start_has_left_its_second_half(measure: Measure) -> None:
    falling = (10.0 + 40.0 * 0.97**run for run in count())
    _, report = measure(falling, warmup_s=0.1, warmup_limit_s=10.0)
    assert report.disturbance.warmup is not None
    assert report.disturbance.warmup.steady is True
    assert 180 < report.times.warmup_runs < 280
    assert report.times.samples_ms[0] < 10.0 * 1.1
    assert "unsteady" not in report.disturbance.flags


def test_warm_up_that_never_settles_ends_at_its_limit_and_is_flagged(measure: Measure) -> None:
    rising = (10.0 * 1.005**run for run in count())
    _, report = measure(rising, warmup_s=0.1, warmup_limit_s=3.0, min_runs=300)
    assert report.disturbance.warmup is not None
    assert report.disturbance.warmup.steady is False
    assert report.disturbance.warmup.seconds == pytest.approx(3.0, abs=0.1)
    assert "for 3 s at most" in report.disturbance.warmup.rule
    assert report.disturbance.flags[0] == "unsteady"
    assert (
        report.disturbance.warnings[0]
        == f"After {report.times.warmup_runs} runs of warm-up the times still moved by more than 5%."
    )


def test_warm_up_of_a_few_slow_runs_claims_nothing(measure: Measure) -> None:
    _, report = measure(repeat(500.0), warmup_s=1.0)
    assert report.disturbance.warmup is not None
    assert report.disturbance.warmup.steady is None
    assert report.disturbance.warmup.seconds == pytest.approx(10.0)


def test_two_usual_times_are_told_apart(measure: Measure) -> None:
    random = np.random.default_rng(0)
    runs = (float(value) for value in np.where(random.random(2000) < 0.3, 1.5, 1.0) * random.normal(1, 0.02, 2000))
    _, report = measure(runs, min_runs=1000)
    assert report.disturbance.modes is not None
    assert report.disturbance.flags == ("bimodal",)
    assert report.disturbance.modes.fast_ms == pytest.approx(1.0, 0.01)
    assert report.disturbance.modes.slow_ms == pytest.approx(1.5, 0.01)
    assert report.disturbance.modes.slow_share == pytest.approx(0.3, abs=0.05)
    assert "and 1.5 ms in 2" in report.disturbance.warnings[0]


def test_a_clock_that_costs_more_than_a_hundredth_of_a_run_is_flagged(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    session = FakeSession(model, repeat(1.0))
    session.clock = PlayedClock(readings_ns=repeat(MS // 50))
    config = LatencyConfig(warmup_s=0, warmup_runs=1, duration_s=0.0, min_runs=50)
    report = measure_latency(session, IMAGES, config, session.clock)
    assert report.disturbance.loop_overhead_ms == pytest.approx(0.02)
    assert report.disturbance.flags == ("overhead",)
    assert "takes 2.0% of the median" in report.disturbance.warnings[0]


def test_slow_warm_up_runs_do_not_reach_the_samples(measure: Measure) -> None:
    _, report = measure(chain([500.0, 100.0, 100.0], repeat(2.0)), warmup_runs=3)
    assert set(report.times.samples_ms) == {2.0}


def test_measuring_ends_when_both_duration_and_runs_are_reached(measure: Measure) -> None:
    assert measure(repeat(10.0), duration_s=1.0, min_runs=5)[1].times.runs == 100
    assert measure(repeat(10.0), duration_s=0.01, min_runs=70)[1].times.runs == 70
    assert measure(repeat(0.001), duration_s=1.0, min_runs=5, max_runs=30)[1].times.runs == 30


def test_the_batch_is_made_once_by_tiling_the_images(measure: Measure) -> None:
    session, _ = measure(repeat(1.0), batch_size=5)
    assert np.array_equal(session.batches[0], IMAGES[[0, 1, 2, 0, 1]])
    assert all(batch is session.batches[0] for batch in session.batches)
    assert session.batches[0].flags.c_contiguous


def test_a_batch_smaller_than_the_images_takes_the_first(measure: Measure) -> None:
    session, _ = measure(repeat(1.0), batch_size=2)
    assert np.array_equal(session.batches[0], IMAGES[:2])


def test_a_steady_measurement_has_no_flags(measure: Measure) -> None:
    _, report = measure(repeat(2.0), min_runs=300)
    assert (report.disturbance.flags, report.disturbance.warnings) == ((), ())


def test_a_machine_that_slows_down_is_flagged_as_drifting(measure: Measure) -> None:
    _, report = measure(chain(repeat(1.0, 101), repeat(1.3, 100)), min_runs=200)
    assert report.disturbance.flags == ("drift", "noisy", "bimodal")
    assert "+30.0%" in report.disturbance.warnings[0]


def test_blocks_that_disagree_are_flagged_as_noisy_without_drift(measure: Measure) -> None:
    blocks = chain.from_iterable(repeat(value, 60) for value in (1.0, 1.08, 1.0, 1.08, 1.0))
    _, report = measure(chain([1.0], blocks), min_runs=300)
    assert report.disturbance.flags == ("noisy",)


def test_preempted_runs_are_counted_and_left_out_of_the_clean_figures(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = (run // 10 for run in count())
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: next(readings))
    slow_when_preempted = (90.0 if run % 10 == 9 else 10.0 for run in count())
    _, report = measure(chain([1.0], slow_when_preempted), min_runs=100)
    assert report.disturbance.preempted_share == pytest.approx(0.1)
    assert report.disturbance.clean is not None
    assert (report.disturbance.clean.runs, report.disturbance.clean.p99_ms, report.disturbance.clean.mean_ms) == (
        90,
        10.0,
        10.0,
    )
    assert report.times.p99_ms == 90.0
    assert report.disturbance.flags == ("preempted",)


def test_of_the_runs_between_two_questions_the_longest_was_interrupted(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count()
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: next(asked))
    blocks = chain.from_iterable([1.0, 1.0, 6.0, 1.5] for _ in count())
    _, report = measure(chain([1.0], blocks), min_runs=200)
    assert report.disturbance.clean is not None
    assert report.disturbance.preempted_share == pytest.approx(0.25 + 0.03, abs=0.06)
    assert report.disturbance.clean.p99_ms == 1.5
    assert report.times.p90_ms == 6.0


def test_the_system_is_asked_for_preemptions_once_in_5_ms_and_the_next_short_run_is_not_counted(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count()
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: next(asked) // 5)
    runs = chain.from_iterable(chain(repeat(0.5, 10), [7.0]) for _ in count())
    _, report = measure(chain([0.5], runs), min_runs=200)
    assert set(report.times.samples_ms) == {0.5}
    assert next(asked) == 21  # before the first run, and after every ten
    assert report.disturbance.preempted_share == 4 / 200
    assert report.disturbance.clean is not None
    assert report.disturbance.clean.runs == 196


def test_without_clean_runs_there_are_no_clean_figures(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count(step=10)
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: next(readings))
    _, report = measure(repeat(1.0))
    assert (report.disturbance.preempted_share, report.disturbance.clean) == (1.0, None)


def test_a_system_that_does_not_count_preemptions_says_so(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurement, "read_involuntary_switches", lambda: None)
    _, report = measure(repeat(1.0))
    assert (report.disturbance.preempted_share, report.disturbance.clean) == (None, None)


@pytest.mark.parametrize(
    ("before", "after", "flag", "sentence"),
    [
        ({"pressure": {"some_avg10": 35.0}}, {}, "contended", "waited for a CPU 35 %"),
        ({"stolen_s": 1.0}, {"stolen_s": 1.5}, "contended", "Another guest took 0.50 s"),
        ({}, {"throttling": {"active": ["under-voltage"]}}, "throttled", "reports under-voltage"),
        ({"throttling": {"core_events": 2}}, {"throttling": {"core_events": 5}}, "throttled", "throttled itself"),
    ],
)
def test_the_state_of_the_machine_is_flagged(
    measure: Measure,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, object],
    after: dict[str, object],
    flag: str,
    sentence: str,
) -> None:
    states = iter([{**QUIET, **before}, {**QUIET, **after}])
    monkeypatch.setattr(measurement, "read_conditions", lambda: next(states))
    _, report = measure(repeat(1.0))
    assert report.disturbance.flags == (flag,)
    assert sentence in report.disturbance.warnings[0]
    assert report.disturbance.conditions["before"] == {**QUIET, **before}
    assert report.disturbance.conditions["after"] == {**QUIET, **after}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"pressure": {"some_avg10": 5.0}}, {"pressure": {"some_avg10": 9.9}}),
        ({"stolen_s": 3.0}, {"stolen_s": 3.0}),
        ({"throttling": {"core_events": 2}}, {"throttling": {"core_events": 2}}),
        ({"throttling": {"active": [], "since_boot": ["throttled"]}}, {}),
    ],
)
def test_a_machine_in_order_is_not_flagged(
    measure: Measure, monkeypatch: pytest.MonkeyPatch, before: dict[str, object], after: dict[str, object]
) -> None:
    states = iter([{**QUIET, **before}, {**QUIET, **after}])
    monkeypatch.setattr(measurement, "read_conditions", lambda: next(states))
    assert measure(repeat(1.0))[1].disturbance.flags == ()


def test_times_of_an_emulated_processor_are_flagged(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    device: DeviceInfo = replace(read_device(), emulated=True)
    monkeypatch.setattr(measurement, "read_device", lambda: device)
    assert measure(repeat(1.0))[1].disturbance.flags == ("emulated",)


def test_progress_is_reported_ten_times_a_second_between_runs(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(b"x")
    session = FakeSession(model, repeat(10.0))
    seen: list[tuple[int, int]] = []
    config = LatencyConfig(warmup_s=0, warmup_runs=1, duration_s=1.0, min_runs=1)
    measure_latency(session, IMAGES, config, session.clock, lambda done, total, note="": seen.append((done, total)))
    assert seen == [(100 * step, 1000) for step in range(1, 11)]


def test_the_record_meets_its_schema(measure: Measure) -> None:
    _, report = measure(repeat(1.0), min_runs=400)
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    jsonschema.validate(record, SCHEMA)
    assert record["intervals"]["p50_ms"] == [1.0, 1.0]


def test_a_single_run_of_no_length_still_makes_a_valid_record(measure: Measure) -> None:
    _, report = measure(repeat(0.0), min_runs=1)
    record = json.loads(json.dumps(report.to_json(), allow_nan=False))
    jsonschema.validate(record, SCHEMA)
    assert (record["std_ms"], record["throughput_per_s"]) == (None, None)
    assert record["intervals"]["p50_ms"] == [None, None]


def test_measuring_needs_an_image(measure: Measure) -> None:
    with pytest.raises(DataError, match="at least one image and got none"):
        measure(repeat(1.0), images=IMAGES[:0])


@pytest.mark.parametrize("name", ["batch_size", "min_runs", "max_runs"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0; it must be 1 or more"):
        LatencyConfig(**{name: 0})


@pytest.mark.parametrize("name", ["warmup_s", "warmup_runs", "duration_s"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_negative_or_endless_times_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"{name} is .*; it must be 0 or more, and finite"):
        LatencyConfig(**{name: value})


def test_more_runs_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(UsageError, match="min_runs is 50, more than max_runs, which is 10"):
        LatencyConfig(max_runs=10)


def test_the_real_runtime_is_measured_and_the_record_written_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    config = LatencyConfig(batch_size=3, warmup_s=0.01, duration_s=0.05, min_runs=60)
    with open_session(bundle, threads=1) as session:
        report = measure_latency(session, IMAGES, config)
    path = write_latency(bundle, report)
    assert path == bundle.path / "latency" / f"{report.model.device}-onnxruntime-fp32-b3.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(record, SCHEMA)
    assert record["runs"] == len(record["samples_ms"]) >= 60
    assert 0 < record["min_ms"] <= record["p50_ms"] <= record["p90_ms"] <= record["p99_ms"]
    assert record["loop_overhead_ms"] < record["p50_ms"]
    assert record["model_sha256"] == bundle.model_sha256("model.fp32")
    assert record["peak_memory_bytes"] > 10_000_000
    assert (record["threads"], record["provider"], record["bundle"]) == (1, "cpu", "bundle")
