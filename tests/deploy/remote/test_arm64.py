"""The device part, numpy and ONNX Runtime for 64-bit ARM, emulated: pushed and run over SSH, with the accuracy found
here."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.parity.check import ParityLimits, check_parity
from edgedistill_deploy.remote.check import check_devices
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import run_on_devices
from edgedistill_deploy.runtimes.opening import open_session

Make = Callable[..., Any]
SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "make_arm64_device.sh"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an emulated board; EDGEDISTILL_ARM64 names a folder that the script filled before."""
    made = os.environ.get("EDGEDISTILL_ARM64")
    if made:
        return Path(made) / "python"
    if shutil.which("qemu-aarch64-static") is None or shutil.which("apt-get") is None:
        pytest.skip("needs qemu-user-static and apt-get")
    folder = tmp_path_factory.mktemp("arm64")
    subprocess.run([str(SCRIPT), str(folder)], check=True)
    return folder / "python"


@pytest.fixture
def board(device: Make, emulated: Path) -> Device:
    made: Device = device("pi", python=str(emulated))
    return made


def test_it_says_what_it_is(board: Device) -> None:
    (record,) = check_devices([board])
    assert record["verdict"] == "ready", record
    assert record["board"] == "Raspberry Pi 4 Model B Rev 1.1"
    assert (record["cpu"], record["architecture"]) == ("Cortex-A72", "aarch64")
    assert record["emulated"] is True


def test_the_accuracy_is_the_one_found_here(board: Device, validating: Make, bundle: Bundle, work: Path) -> None:
    (outcome,) = run_on_devices([board], validating(board))
    assert outcome.result is not None, outcome.error
    assert outcome.result["machine"]["architecture"] == "aarch64"
    for record in outcome.result["records"]:
        with open_session(bundle, precision=record["precision"], threads=1) as session:
            local = check_parity(bundle, session, None, ParityLimits(max_drop=0.5)).to_json()
        assert record["device"] == "pi-emulated"
        assert record["accuracy"] == local["accuracy"]
        assert record["agreement"] == local["agreement"]
    float32 = outcome.result["records"][0]["numeric"]
    assert float32["max_abs_error"] < 1e-3  # of the outputs recorded on the machine that built the bundle
    assert not work.exists()


def test_its_times_are_marked_as_emulated(board: Device, profiling: Make) -> None:
    (outcome,) = run_on_devices([board], profiling(board))
    assert outcome.result is not None, outcome.error
    (record,) = outcome.result["records"]
    assert record["device"]["name"] == "pi-emulated"
    assert record["device"]["emulated"] is True
    assert "emulated" in record["flags"]
