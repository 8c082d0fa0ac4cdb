import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.errors import BundleError, EdgeDistillError, UsageError
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.profiling._alternating import Comparing, compare_models
from edgedistill_deploy.profiling._fresh_process import FreshProcess
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.profiling.run import run_profile, write_profile
from reference.measured_bundles import bundle_of

QUICK = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=20)


def test_each_task_is_done_in_a_process_of_its_own() -> None:
    with FreshProcess() as process, FreshProcess() as another:
        own = [process.ask("identify"), process.ask("identify")]
        assert own == [process.identity] * 2
        assert len({*own, os.getpid(), another.ask("identify")}) == 3


def test_a_process_that_is_killed_is_a_sentence() -> None:
    with FreshProcess() as process:
        os.kill(process.identity, signal.SIGKILL)
        with pytest.raises(EdgeDistillError, match="ended before it was done"):
            process.ask("identify")


def test_every_choice_is_measured_and_written_under_its_name(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    seen: list[str] = []
    request = ProfileRequest(latency=QUICK, batch_sizes=(1, 3), precisions=("fp32",))
    profile = run_profile(bundle.path, request, lambda done, total, note="": seen.append(note))
    assert [record["batch_size"] for record in profile["records"]] == [1, 3]
    assert (profile["kind"], profile["schema"]) == ("latency-set", 1)
    device = profile["records"][0]["device"]["name"]
    paths = write_profile(bundle, profile)
    assert [path.name for path in paths] == [f"{device}-onnxruntime-fp32.json", f"{device}-onnxruntime-fp32-b3.json"]
    assert all(path.parent == bundle.path / "latency" and path.is_file() for path in paths)


def test_what_the_process_refuses_is_raised_here(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    with pytest.raises(BundleError, match="has no model of precision int8"):
        run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("int8",)))
    with pytest.raises(UsageError, match="no provider 'gpu'"):
        run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("fp32",), providers=("gpu",)))


def test_a_request_survives_the_way_to_a_device() -> None:
    request = ProfileRequest(
        precisions=("fp32", "int8"),
        batch_sizes=(1, 4),
        rate=12.5,
        cold_start=True,
        compare=True,
        latency=LatencyConfig(warmup_s=0.5, duration_s=3.0),
    )
    assert ProfileRequest.from_json(request.to_json()) == request
    assert ProfileRequest.from_json({}) == ProfileRequest()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"runtimes": ["onnxruntim"]}, "no runtime 'onnxruntim'. Did you mean onnxruntime"),
        ({"precisions": ["in8"]}, "no precision 'in8'. Did you mean int8"),
        ({"batch_sizes": [4, 0]}, "batch_size is 0; it must be 1 or more"),
        ({"providers": ["opnvino"]}, "no provider 'opnvino' here. Did you mean openvino"),
        ({"added": ["gpu"]}, "no provider 'gpu' here"),
        ({"providers": ["cpu", "openvino"], "runtimes": ["tensorrt"]}, "belong to ONNX Runtime, and tensorrt has none"),
        ({"batch_sizes": []}, "at least one runtime, one provider, one precision and one batch size"),
        ({"rate": 0.0}, "rate is 0.0; it must be more than 0"),
        ({"rate": 0.1}, "1 batches arrive in 10 s; for a measurement give --duration 50 or more"),
        ({"rate": 5.0, "arrivals": "poison"}, "no arrivals 'poison'. Did you mean poisson"),
        ({"threads": 0}, "threads is 0; it must be 1 or more"),
        ({"margin": 3.0}, "margin is 3.0; it must be 0 or more and less than 1"),
        ({"rates": 3.0}, "no 'rates'. Did you mean rate"),
        ({"latency": {"duration": 3}}, "no 'duration'. Did you mean duration_s"),
    ],
)
def test_wrong_requests_are_refused_by_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ProfileRequest.from_json(given)


def test_a_comparison_needs_two_models(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    with pytest.raises(UsageError, match="A comparison needs two models at least"):
        run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("fp32",), compare=True))


def test_everything_that_can_be_asked_for_is_measured_by_the_real_runtime(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    config = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.1, min_runs=10)
    request = ProfileRequest(
        latency=config, precisions=("fp32",), batch_sizes=(2,), rate=200.0, cold_start=True, end_to_end=True
    )
    [record] = run_profile(bundle.path, request)["records"]
    sustained, cold, whole = record["sustained"], record["cold_start"], record["end_to_end"]
    assert (sustained["batch_size"], sustained["arrivals"]) == (2, "poisson")
    assert sustained["completed"] == len(sustained["latency_ms"]) >= 1
    assert cold["repeats"] == 5
    assert 0 < cold["median_ms"]["first_run"] < cold["median_ms"]["import"]
    assert cold["median_ms"]["start"] > 1
    assert cold["median_ms"]["total"] <= cold["slowest_ms"]
    assert [part["name"] for part in whole["parts"]] == ["decode", "resize", "inference"]
    assert whole["p50_ms"] > record["p50_ms"]
    assert whole["source"] == "images of the bundle enlarged to 640 x 480 pixels, JPEG quality 90"


def test_models_are_compared_in_processes_of_their_own(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    config = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.05, min_runs=10)
    told: list[tuple[int, int, str]] = []
    settings = Comparing(
        folder=bundle.path,
        config=config,
        margin=0.03,
        seed=0,
        sets=1,
        progress=lambda done, total, note="": told.append((done, total, note)),
    )
    model = {"runtime": "onnxruntime", "precision": "fp32", "provider": "cpu", "threads": 1}
    comparison = compare_models([model, model], settings)
    json.dumps(comparison, allow_nan=False)
    assert {name: len(sets) for name, sets in comparison["block_medians_ms"].items()} == {"a_a": 1, "a_b": 1}
    assert comparison["a_a"]["false_alarm_rate"] in {0.0, 1.0}
    [pair] = comparison["pairs"]
    assert (pair["candidate"], pair["baseline"]) == ("fp32 on onnxruntime",) * 2
    assert 0.1 < pair["ratio"] < 10
    assert pair["margin"] >= max(0.03, comparison["a_a"]["deviation"])
    total = 2 * pair["rounds"]
    assert [step for step in told if step[2] == "A/B"] == [(done, total, "A/B") for done in range(1, total + 1)]


@pytest.mark.slow
def test_a_profile_compares_its_choices_and_writes_the_comparison(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    bundle = bundle.with_file("teacher.fp32", bundle.file("model.fp32"))
    config = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.1, min_runs=10)
    profile = run_profile(bundle.path, ProfileRequest(latency=config, precisions=("teacher", "fp32"), compare=True))
    comparison = profile["comparison"]
    assert [pair["candidate"] for pair in comparison["pairs"]] == ["fp32 on onnxruntime"]
    assert len(comparison["a_a"]["ratios"]) == 4
    paths = write_profile(bundle, profile)
    assert paths[-1] == bundle.path / "latency-comparison" / f"{comparison['device']['name']}.json"
    assert json.loads(paths[-1].read_text(encoding="utf-8")) == comparison
