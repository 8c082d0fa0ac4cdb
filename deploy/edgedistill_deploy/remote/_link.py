"""The line to the keeper on a device (`_keeper`): it takes JSON commands and a beat, and answers JSON events."""

import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.remote._answers import read_event
from edgedistill_deploy.remote._connection import DeviceError, import_asyncssh
from edgedistill_deploy.remote.inventory import Device

# This text is safe in every login shell; the source itself follows on the standard input.
_BOOTSTRAP = "import sys,json;sys.path[:]=[p for p in sys.path if p];exec(json.loads(sys.stdin.readline()))"
_BEAT_S = 20.0
_PATIENCE_S = 60.0
_OLDEST_PYTHON = (3, 10)
_ANSWERS = {
    "open": ("opened", "locked"),
    "try": ("tried",),
    "look": ("found",),
    "settle": ("settled",),
    "run": ("started",),
    "free": ("free",),
}
_NO_SPACE = (28, 122)  # ENOSPC, EDQUOT

Event = dict[str, Any]


class Link:
    """The line to the keeper of one device; `is_gone` is True once the line is known to be dead."""

    def __init__(self, process: Any, device: Device) -> None:
        self._process, self._device = process, device
        self.is_gone = False

    def send(self, do: str, **values: Any) -> None:
        """Send a command; reading the answer shows that a line is gone."""
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps({**values, "do": do}) + "\n")

    async def hear(self, patience_s: float) -> Event:
        """Return the next event. Raises DeviceError when none comes, or when the keeper or the connection is gone."""
        while True:
            line = await self._line(patience_s)
            if not line:
                await self._explain_end()
            try:
                event = read_event(line)
            except DataError as error:
                raise build_strange_error(self._device, error) from error
            if event is not None:
                return event

    async def ask(self, do: str, patience_s: float = _PATIENCE_S, **values: Any) -> Event:
        """Send a command and return its answer. Raises DeviceError for a failure that the device reports."""
        self.send(do, **values)
        event = await self.hear(patience_s)
        if event["event"] == "failed" and event.get("errno") in _NO_SPACE:
            raise DeviceError(full_disk(self._device, event.get("free_bytes")))
        if event["event"] == "failed":
            raise DeviceError(f"{self._device.name} could not do it: {event['text']}.")
        if event["event"] not in _ANSWERS[do]:
            raise build_strange_error(self._device, f"{event['event']} is no answer to {do}")
        return event

    async def beat(self) -> None:
        """Tell the keeper every 20 s that this side is there."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self.send("beat")

    async def _line(self, patience_s: float) -> str:
        asyncssh = import_asyncssh()
        try:
            return str(await asyncio.wait_for(self._process.stdout.readline(), patience_s))
        except asyncio.TimeoutError as error:
            self.is_gone = True
            raise DeviceError(
                f"{self._device.name} did not answer for {patience_s:.0f} s; the link is down or the device hangs. It "
                "frees itself within two minutes; what had arrived is not sent again."
            ) from error
        except (asyncssh.Error, OSError) as error:
            raise build_lost_error(self._device) from error

    async def _explain_end(self) -> None:
        """Raise the error that explains the end of the keeper's output."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._process.wait_closed(), 5)
        code, ended_by = self._process.exit_status, self._process.exit_signal
        if code is None and ended_by is None:
            raise build_lost_error(self._device)
        stderr = ""
        with contextlib.suppress(Exception):
            stderr = await asyncio.wait_for(self._process.stderr.read(4000), 5)
        raise DeviceError(_describe_end(self._device, code, ended_by, stderr))


@contextlib.asynccontextmanager
async def keeper_of(connection: Any, device: Device) -> AsyncIterator[Link]:
    """Start the keeper in the device's Python and yield the line to it. Raises DeviceError when it does not start."""
    process = await start_python(connection, device, read_source("remote", "_keeper.py"))
    link = Link(process, device)
    beats = asyncio.get_running_loop().create_task(link.beat())
    try:
        ready = await link.hear(_PATIENCE_S)
        if ready["event"] != "ready":
            raise build_strange_error(device, f"it begins with {ready['event']}")
        require_python(device, ready["python"])
        yield link
    finally:
        beats.cancel()
        with contextlib.suppress(Exception):
            process.stdin.write_eof()


async def start_python(connection: Any, device: Device, source: str) -> Any:
    """Run source in the device's Python; later writes to the process are its standard input."""
    command = f'{quote(device.python)} -c "{_BOOTSTRAP}"'
    asyncssh = import_asyncssh()
    try:
        process = await connection.create_process(command, encoding="utf-8", errors="replace")
    except (asyncssh.Error, OSError) as error:
        raise DeviceError(f"{device.name} does not let us run a command: {error}.") from error
    process.stdin.write(json.dumps(source) + "\n")
    return process


def require_python(device: Device, version: list[int]) -> None:
    """Raise DeviceError when the device's Python is older than the device part needs."""
    if tuple(version) < _OLDEST_PYTHON:
        raise DeviceError(
            f"{device.name} has Python {'.'.join(map(str, version))} as {device.python}; the device part needs 3.10 or "
            "newer. Install one beside it and name it with python in devices.toml."
        )


def quote(path: str) -> str:
    """Quote a path for the device's shell; ~/ still means the home there."""
    return f"~/{shlex.quote(path[2:])}" if path.startswith("~/") else shlex.quote(path)


def build_lost_error(device: Device) -> DeviceError:
    """Return the error for a connection that broke."""
    return DeviceError(
        f"The connection to {device.name} was lost. The device stops what it was doing and frees its lock by itself, "
        "at the latest after two minutes; nothing unfinished was taken for a result. Run the command again: what had "
        "arrived is not sent again."
    )


def build_strange_error(device: Device, reason: object) -> DeviceError:
    """Return the error for an answer that the device part does not give."""
    return DeviceError(
        f"{device.name} sent what EdgeDistill's part there does not send ({reason}); nothing of it was taken. Check "
        "whose device it is, and run it again."
    )


def full_disk(device: Device, free_bytes: int | None) -> str:
    """Return the sentence for a full disk."""
    left = "" if free_bytes is None else f" ({free_bytes / 1e6:.1f} MB are free)"
    return (
        f"The disk of {device.name} is full where {device.work} lies{left}; make room there, or choose another folder "
        "with work in devices.toml."
    )


def _describe_end(device: Device, code: int | None, ended_by: Any, stderr: str) -> str:
    last = stderr.strip().splitlines()[-1][:300] if stderr.strip() else ""
    if "Exec format error" in stderr or "cannot execute" in stderr:
        return (
            f"{device.python} on {device.name} is built for another kind of processor ({last}); name its own Python "
            "with python in devices.toml."
        )
    if code in (126, 127) or "not found" in last:
        return (
            f"{device.name} has no Python at {device.python} ({last or f'code {code}'}); install one, for example sudo "
            "apt-get install python3, or name it with python in devices.toml."
        )
    how = f"by signal {ended_by[0]}" if ended_by else f"with code {code}"
    return (
        f"EdgeDistill's process on {device.name} ended {how} before it was done, killed or out of "
        f"memory{f': {last}' if last else ''}. Nothing unfinished was taken for a result."
    )


def read_source(*path: str) -> str:
    """Return the source of a module of the package, by its path in it."""
    return files("edgedistill_deploy").joinpath(*path).read_text(encoding="utf-8")
