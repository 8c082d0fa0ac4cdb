"""A real OpenSSH server for these tests, and a device that is it."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.parity.check import ParityLimits
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import RemoteJob
from edgedistill_deploy.remote.tasks import RuntimeChoice, profile_job, validate_job
from reference.device_timing import BRIEF
from ssh_server import SSHD, SshServer, ssh_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if SSHD is None:
        reason = "needs OpenSSH's sshd: apt-get install openssh-server"
        if os.environ.get("EDGEDISTILL_REQUIRE_SSHD"):
            pytest.fail(reason)
        pytest.skip(reason)
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, agent, configuration or inventory of whoever runs the tests."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The device's work folder."""
    return tmp_path / "device" / "work"


@pytest.fixture
def device(server: SshServer, work: Path) -> Callable[..., Device]:
    """Make a device that is this machine behind SSH, with other fields as given."""

    def make(name: str = "loop", **others: object) -> Device:
        plain = {"python": sys.executable, "work": str(work), "environment": {"OMP_NUM_THREADS": "1"}}
        return Device(name=name, **server.settings(**{**plain, **others}))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def bundle(shared_run: Path) -> Bundle:
    return open_bundle(shared_run)


@pytest.fixture
def profiling(bundle: Bundle) -> Callable[..., RemoteJob]:
    """Make the job of timing the fp32 expert, briefly unless told."""

    def make(*devices: Device, latency: LatencyConfig = BRIEF, keep: bool = False, wait_s: float = 0) -> RemoteJob:
        request = ProfileRequest(precisions=("fp32",), latency=latency)
        return profile_job(bundle, request, devices, RuntimeChoice(), keep=keep, wait_s=wait_s)

    return make


@pytest.fixture
def validating(bundle: Bundle) -> Callable[..., RemoteJob]:
    """Make the job of judging experts."""

    def make(*devices: Device, precisions: tuple[str, ...] = ("fp32", "int8"), keep: bool = False) -> RemoteJob:
        limits = ParityLimits(max_drop=0.5)
        return validate_job(bundle, limits, devices, RuntimeChoice(), precisions=precisions, threads=1, keep=keep)

    return make
