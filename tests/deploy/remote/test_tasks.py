"""What is sent to a device for a task."""

from pathlib import Path

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.records.parity import ParityLimits
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.tasks import RuntimeChoice, profile_job, validate_job

FILES = ("model.fp32", "model.fp32.data", "model.int8", "model.int8-tensorrt", "model.int8-fp16-tensorrt", "golden")


def test_a_device_is_sent_what_its_models_are_expected_to_give() -> None:
    roles = (*FILES, "golden.int8", "golden.int8-tensorrt", "golden.int8-fp16-tensorrt")
    manifest = {"files": {role: {} for role in roles}, "subtask": {"class_names": ["cat"]}}
    bundle = Bundle(path=Path("run"), manifest=manifest)

    def expectations(device: Device) -> list[str]:
        job = validate_job(bundle, ParityLimits(), [device], RuntimeChoice(), precisions=("int8",))
        return [role for role in job.roles if role.startswith("golden")]

    assert expectations(Device(name="a", host="a")) == ["golden.int8", "golden", "golden-images"]
    there = Device(name="b", host="b", runtime="tensorrt")
    assert expectations(there) == ["golden.int8-tensorrt", "golden", "golden-images"]


def test_a_device_is_sent_the_files_that_its_runtime_takes() -> None:
    bundle = Bundle(
        path=Path("run"), manifest={"files": {role: {} for role in FILES}, "subtask": {"class_names": ["a", "b"]}}
    )
    here, there = Device(name="a", host="a"), Device(name="b", host="b", runtime="tensorrt")

    def models(*devices: Device, precisions: tuple[str, ...] | None = None) -> set[str]:
        job = profile_job(bundle, ProfileRequest(precisions=precisions), devices, RuntimeChoice())
        return {role for role in job.roles if role.startswith("model.")}

    assert models(here) == {"model.fp32", "model.fp32.data", "model.int8"}
    assert models(there) == {"model.fp32", "model.fp32.data", "model.int8-tensorrt"}
    assert models(here, there, precisions=("int8",)) == {"model.int8", "model.int8-tensorrt"}
    # What the bundle lacks is refused by the device that is asked for it.
    assert models(here, precisions=("fp16",)) == set()


@pytest.mark.parametrize(
    ("chosen", "expected"), [(RuntimeChoice(), ("qnn",)), (RuntimeChoice(provider="cpu,openvino"), ("cpu", "openvino"))]
)
def test_a_device_measures_on_its_own_provider_or_those_that_were_named(
    chosen: RuntimeChoice, expected: tuple[str, ...]
) -> None:
    bundle = Bundle(path=Path("run"), manifest={"files": {role: {} for role in FILES}})
    device = Device(name="a", host="a", provider="qnn")
    both = ProfileRequest(providers=("cpu", "openvino"), added=("xnnpack",))
    asked = ProfileRequest.from_json(profile_job(bundle, both, [device], chosen).request(device)["profile"])
    assert (asked.providers, asked.added) == (expected, ())


def test_the_limit_for_one_inference_goes_to_the_device() -> None:
    bundle = Bundle(
        path=Path("run"), manifest={"files": {role: {} for role in FILES}, "subtask": {"class_names": ["a", "b"]}}
    )
    device = Device(name="a", host="a")
    timed = profile_job(bundle, ProfileRequest(limit_s=7.0), [device], RuntimeChoice()).request(device)
    assert ProfileRequest.from_json(timed["profile"]).limit_s == 7.0
    judged = validate_job(bundle, ParityLimits(), [device], RuntimeChoice(), precisions=("fp32",), limit_s=7.0)
    assert judged.request(device)["run_limit_s"] == 7.0
