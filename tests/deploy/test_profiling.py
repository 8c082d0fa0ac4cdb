import os
import signal
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy._fresh_process import FreshProcess, in_fresh_process
from edgedistill_deploy.errors import BundleError, EdgeDistillError, UsageError
from edgedistill_deploy.latency import LatencyConfig
from edgedistill_deploy.profiling import ProfileRequest, run_profile, write_profile
from reference.measured_bundles import bundle_of

QUICK = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=20)


def test_each_task_is_done_in_a_process_of_its_own() -> None:
    with FreshProcess() as process:
        own = [process.ask("identify"), process.ask("identify")]
    assert own == [process.identity] * 2
    assert len({*own, os.getpid(), in_fresh_process("identify")}) == 3


def test_a_process_that_is_killed_is_a_sentence() -> None:
    with FreshProcess() as process:
        os.kill(process.identity, signal.SIGKILL)
        with pytest.raises(EdgeDistillError, match="ended before it was done"):
            process.ask("identify")


def test_every_choice_is_measured_and_written_under_its_name(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    seen: list[str] = []
    request = ProfileRequest(latency=QUICK, batch_sizes=(1, 3), precisions=("fp32",))
    profile = run_profile(bundle.path, request, lambda name, done, total: seen.append(name))
    assert [record["batch_size"] for record in profile["records"]] == [1, 3]
    assert (profile["kind"], profile["schema"]) == ("latency-set", 1)
    device = profile["records"][0]["device"]["name"]
    paths = write_profile(bundle, profile)
    assert [path.name for path in paths] == [
        f"{device}-onnxruntime-fp32.json",
        f"{device}-onnxruntime-fp32-b3.json",
    ]
    assert all(path.parent == bundle.path / "latency" and path.is_file() for path in paths)


def test_what_the_process_refuses_is_raised_here(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    with pytest.raises(BundleError, match="has no model of precision int8"):
        run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("int8",)))
    with pytest.raises(UsageError, match="no provider 'gpu'"):
        run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("fp32",), provider="gpu"))


def test_a_request_survives_the_way_to_a_device() -> None:
    request = ProfileRequest(
        precisions=("fp32", "int8"), batch_sizes=(1, 4), rate=12.5, latency=QUICK, cold_start=True
    )
    assert ProfileRequest.from_json(request.to_json()) == request
    assert ProfileRequest.from_json({}) == ProfileRequest()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"runtimes": ["onnxruntim"]}, "no runtime 'onnxruntim'. Did you mean onnxruntime"),
        ({"precisions": ["in8"]}, "no precision 'in8'. Did you mean int8"),
        ({"batch_sizes": [4, 0]}, "batch_size is 0; it must be 1 or more"),
        ({"batch_sizes": []}, "at least one runtime, one precision and one batch size"),
        ({"rate": 0.0}, "rate is 0.0; it must be more than 0"),
        ({"rates": 3.0}, "no 'rates'. Did you mean rate"),
        ({"latency": {"duration": 3}}, "no 'duration'. Did you mean duration_s"),
    ],
)
def test_wrong_requests_are_refused_by_name(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        ProfileRequest.from_json(given)
