"""Servers and devices that are not as they should be, and answers that arrive damaged."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edgedistill_deploy.remote._connection import DeviceError, connect
from edgedistill_deploy.remote._link import Link, keeper_of
from edgedistill_deploy.remote._push import Item
from edgedistill_deploy.remote.check import check_devices
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import _pull, _read_result, run_on_devices
from ssh_server import SshServer, ssh_server

Make = Callable[..., Any]


def error_of(job: Any, device: Device) -> str:
    (outcome,) = run_on_devices([device], job)
    assert outcome.error is not None
    return outcome.error


def test_a_server_without_sftp(device: Make, profiling: Make, server: SshServer, tmp_path: Path) -> None:
    with ssh_server(tmp_path / "plain", sftp=False) as plain:
        target = device(**plain.settings())
        assert "The SSH server of loop offers no SFTP" in error_of(profiling(target), target)
        (record,) = check_devices([target])
    assert [missing["what"] for missing in record["missing"]] == ["sftp"]


def test_a_server_that_lets_no_command_run(device: Make, profiling: Make, server: SshServer, tmp_path: Path) -> None:
    with ssh_server(tmp_path / "closed", "MaxSessions 0") as closed:
        target = device(**closed.settings())
        assert "loop does not let us run a command" in error_of(profiling(target), target)
        (record,) = check_devices([target])
    assert record["verdict"] == "unreachable"
    assert "loop runs no shell command" in record["error"]


def test_a_shell_that_greets_and_ends(device: Make, profiling: Make, server: SshServer, tmp_path: Path) -> None:
    with ssh_server(tmp_path / "rude", "ForceCommand echo welcome; exit 5") as rude:
        target = device(**rude.settings())
        assert "ended with code 5 before it was done" in error_of(profiling(target), target)


def test_a_shell_that_greets_and_goes_on(device: Make, profiling: Make, server: SshServer, tmp_path: Path) -> None:
    greeting = (
        'ForceCommand case "$SSH_ORIGINAL_COMMAND" in *python*) echo "{welcome"; eval '
        '"$SSH_ORIGINAL_COMMAND";; *) exec /usr/lib/openssh/sftp-server;; esac'
    )
    if not Path("/usr/lib/openssh/sftp-server").exists():
        pytest.skip("needs OpenSSH's sftp-server where Debian puts it")
    with ssh_server(tmp_path / "polite", greeting) as polite:
        target = device(**polite.settings())
        (outcome,) = run_on_devices([target], profiling(target))
        assert outcome.error is None


@pytest.fixture
def breaking_python(tmp_path: Path) -> Path:
    """A Python that does all but run modules."""
    script = tmp_path / "python"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] && echo "a library is broken" >&2 && exit 3\nexec {sys.executable} "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def test_a_device_part_that_does_not_start(device: Make, profiling: Make, breaking_python: Path, work: Path) -> None:
    target = device(python=str(breaking_python))
    message = error_of(profiling(target), target)
    assert "ended with code 3 and without a result (a library is broken)" in message
    assert not work.exists()


def test_files_that_always_arrive_damaged(
    device: Make, profiling: Make, monkeypatch: pytest.MonkeyPatch, work: Path
) -> None:
    monkeypatch.setattr(Item, "chunks", lambda item, start: iter([b"x" * (item.size - start)]))
    target = device()
    assert "arrived damaged on loop twice; its disk or memory is faulty" in error_of(profiling(target), target)
    assert not work.exists()


@contextlib.asynccontextmanager
async def held(target: Device) -> AsyncIterator[tuple[Any, Link]]:
    async with connect(target) as connection, keeper_of(connection, target) as link:
        yield connection, link


def test_a_result_that_arrives_damaged_is_none(device: Make, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_bytes(b"{}")
    ended = {"result": {"path": str(tmp_path / "result.json"), "bytes": 2, "sha256": "0" * 64}}

    async def pull() -> None:
        async with held(device()) as (connection, _):
            await _pull(await connection.start_sftp_client(), device(), ended)

    with pytest.raises(DeviceError, match="The result from loop arrived damaged; run it again"):
        asyncio.run(pull())


def test_a_result_of_absurd_size_is_not_read(device: Make) -> None:
    ended = {"result": {"path": "/dev/zero", "bytes": 1 << 40, "sha256": ""}}
    with pytest.raises(DeviceError, match="loop offers a result of 1099511627776 bytes"):
        asyncio.run(_pull(None, device(), ended))


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[]",
        b'{"kind": "parity-set", "records": [], "machine": {"name": "loop"}}',
        b'{"kind": "latency-set", "records": [{"device": {"name": "orin"}}], "machine": {"name": "loop"}}',
        b'{"kind": "latency-set", "records": [{}], "machine": {"name": "loop"}}',
    ],
)
def test_what_is_no_result_is_refused(device: Make, data: bytes) -> None:
    with pytest.raises(DeviceError, match="What loop sent is no result of profile"):
        _read_result(data, device(), "profile")


def test_a_device_that_falls_silent(device: Make) -> None:
    async def listen() -> None:
        async with held(device()) as (_, link):
            await link.hear(0.2)

    with pytest.raises(DeviceError, match="loop did not answer for 0 s; the link is down or the device hangs"):
        asyncio.run(listen())


def test_a_keeper_refuses_what_the_system_refuses(device: Make, server: SshServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    target = device(work=str(tmp_path / "file" / "work"))

    async def open_there() -> None:
        async with held(target) as (_, link):
            await link.ask("open", work=target.work, owner={}, wait_s=0)

    with pytest.raises(DeviceError, match=r"loop could not do it: .*Not a directory"):
        asyncio.run(open_there())
