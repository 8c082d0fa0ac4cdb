"""What devices answered, as it is written into the bundle; the devices themselves are played."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.parity.check import ParityLimits, check_parity
from edgedistill_deploy.remote import jobs
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import DeviceOutcome, RemoteJob
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of


def answer_of(bundle: Bundle, device: Device, provider: str) -> DeviceOutcome:
    """What a device would answer if it had the provider."""
    with open_session(bundle, threads=1) as session:
        record = check_parity(bundle, session, None, ParityLimits(max_drop=0.9)).to_json()
    told = {**record, "device": device.name, "provider": provider}
    machine = {"name": device.name}
    result = {"kind": "parity-set", "records": [told], "chain": None, "machine": machine}
    return DeviceOutcome(device=device, result=result)


def test_the_records_of_two_providers_of_a_device_stay_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [0, 1, 2] * 10
    bundle, _ = bundle_of(tmp_path, classes, classes, classes)

    def played(devices: Sequence[Device], job: RemoteJob, progress: Any = None) -> tuple[DeviceOutcome, ...]:
        return tuple(answer_of(bundle, device, job.request(device)["provider"]) for device in devices)

    monkeypatch.setattr(jobs, "run_on_devices", played)
    for provider in ("cpu", "cuda"):
        done = run_command("validate", bundle.path, "--device", "ssh://me@board", "--provider", provider)
        assert done.code == 0, done.stderr
    found = sorted((bundle.path / "parity").iterdir())
    assert [path.name for path in found] == ["board-onnxruntime-fp32.json", "board-onnxruntime_cuda-fp32.json"]
    assert [json.loads(path.read_text(encoding="utf-8"))["provider"] for path in found] == ["cpu", "cuda"]
