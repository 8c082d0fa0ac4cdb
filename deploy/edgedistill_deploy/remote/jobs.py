"""Profile and validate on devices over SSH: the same measuring as here, run by the device's own Python.

A job locks the device, sends the files that it lacks and the device part as a wheel that is imported but not installed,
passes on the progress, fetches and checks the result, and deletes everything there. Several devices run at once; one
that fails does not affect the others.
"""

import asyncio
import contextlib
import getpass
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.manifest import MANIFEST
from edgedistill_deploy.clock import MACHINE_CLOCK
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
from edgedistill_deploy.lines import QUIET_S, Silence, describe_silence, read_error
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.remote._answers import read_result
from edgedistill_deploy.remote._connection import DeviceError, connect, import_asyncssh
from edgedistill_deploy.remote._link import Event, Link, build_lost_error, keeper_of
from edgedistill_deploy.remote._push import Item, Pushed, Store, push
from edgedistill_deploy.remote._wheel import build_wheel
from edgedistill_deploy.remote.inventory import Device, read_inventory

__all__ = ["DeviceError", "DeviceOutcome", "RemoteJob", "run_on_devices"]

ProgressOf = Callable[[Device], Progress]

_GRACE_S = 60.0  # beyond the device's own limit
_IMPORT_S = 300.0  # importing a runtime from a slow card
_PULL_S = 60.0
_MOST_RESULT_BYTES = 256 << 20
# For each task the kind of its result, and the device's name in a record.
_KINDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "profile": ("latency-set", lambda record: record["device"]["name"]),
    "validate": ("parity-set", lambda record: record["device"]),
}
_MODULES = {"onnxruntime": ("numpy", "PIL", "onnxruntime"), "tensorrt": ("numpy", "PIL", "tensorrt")}
_PACKAGES = {"PIL": "pillow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteJob:
    """What a device is to do.

    Args:
        task: "profile" or "validate".
        roles: the files of the bundle that the task needs; those that the bundle lacks are left out.
        request: returns the task's own part of the request, which depends on the device.
        runtimes: returns the runtimes that the task uses on a device.
        replaced: files to send instead of the bundle's, by role.
        keep: leave the files on the device.
        wait_s: how long to wait for the lock when somebody else has it.
    """

    bundle: Bundle
    task: str
    roles: tuple[str, ...]
    request: Callable[[Device], dict[str, Any]]
    runtimes: Callable[[Device], tuple[str, ...]]
    replaced: Mapping[str, Path] = field(default_factory=dict)
    keep: bool = False
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOutcome:
    """The outcome of a job on one device: the result, or the sentence that says why there is none."""

    device: Device
    result: dict[str, Any] | None = None
    error: str | None = None
    sent_files: int = 0
    sent_bytes: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the outcome without the result's records, as JSON values."""
        return {
            "name": self.device.name,
            "address": self.device.address,
            "status": "failed" if self.result is None else "done",
            "error": self.error,
            "machine": None if self.result is None else self.result["machine"],
            "sent": {"files": self.sent_files, "bytes": self.sent_bytes},
            "seconds": round(self.seconds, 3),
        }


def run_on_devices(
    devices: Sequence[Device], job: RemoteJob, progress_of: ProgressOf = lambda device: silent
) -> tuple[DeviceOutcome, ...]:
    """Do the job on all devices at once and return their outcomes in the same order.

    Raises UsageError when a device is named twice, MissingDependencyError without asyncssh, BundleError when a needed
    file was changed. An error on a device is in its outcome.
    """
    names = [device.name for device in devices]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"The device {name} is named {names.count(name)} times; name each once.")
    import_asyncssh()
    return asyncio.run(_all(devices, job, _Contents(job), progress_of))


class _Contents:
    """What is sent: the wheel, and the part of the bundle that the job needs."""

    def __init__(self, job: RemoteJob) -> None:
        bundle = job.bundle
        self.wheel = Item.of(build_wheel())
        self.files: dict[str, Item] = {}
        entries: dict[str, Any] = {}
        for role in filter(bundle.has, job.roles):
            entry, item = bundle.manifest["files"][role], Item.of(job.replaced.get(role) or bundle.file(role))
            self.files[entry["path"]] = item
            entries[role] = {**entry, "sha256": item.sha256, "bytes": item.size}
        manifest = {**bundle.manifest, "files": entries}
        self.files[MANIFEST] = Item.of(json.dumps(manifest, ensure_ascii=False).encode())

    @property
    def items(self) -> list[Item]:
        return [self.wheel, *self.files.values()]


async def _all(
    devices: Sequence[Device], job: RemoteJob, contents: _Contents, progress_of: ProgressOf
) -> tuple[DeviceOutcome, ...]:
    # When a connection breaks, asyncssh's own tasks would print errors that the outcome already tells.
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    return tuple(await asyncio.gather(*(_outcome(each, job, contents, progress_of(each)) for each in devices)))


async def _outcome(device: Device, job: RemoteJob, contents: _Contents, progress: Progress) -> DeviceOutcome:
    began_ns, pushed = MACHINE_CLOCK.now_ns(), Pushed()
    result, error = None, None
    try:
        result = await _run(device, job, contents, pushed, progress)
    except EdgeDistillError as cause:
        error = str(cause)
    except (OSError, asyncio.TimeoutError, import_asyncssh().Error):
        error = str(build_lost_error(device))
    return DeviceOutcome(
        device=device,
        result=result,
        error=error,
        sent_files=pushed.files,
        sent_bytes=pushed.bytes,
        seconds=(MACHINE_CLOCK.now_ns() - began_ns) / 1e9,
    )


async def _run(
    device: Device, job: RemoteJob, contents: _Contents, pushed: Pushed, progress: Progress
) -> dict[str, Any]:
    progress(0, 1, "connecting")
    async with connect(device) as connection, keeper_of(connection, device) as link:
        opened = await link.ask("open", job.wait_s + _GRACE_S, work=device.work, owner=_owner(), wait_s=job.wait_s)
        if opened["event"] == "locked":
            raise DeviceError(_describe_lock(device, opened["holder"]))
        try:
            await _require_modules(link, device, job)
            sftp = await _sftp(connection, device)
            store = Store(link=link, sftp=sftp, device=device, folder=f"{opened['work']}/store")
            await push(store, contents.items, pushed, progress)
            ended = await _measure(link, device, job, contents, progress)
            result = _read_result(await _pull(sftp, device, ended), device, job.task)
        finally:
            await _close(link, job.keep or device.keep)
    return result


def _owner() -> dict[str, str]:
    with contextlib.suppress(Exception):
        return {"owner": getpass.getuser(), "host": platform.node()}
    return {"owner": str(os.getuid()), "host": platform.node()}


def _describe_lock(device: Device, holder: Mapping[str, Any]) -> str:
    who = f"{holder.get('owner', 'somebody')} on {holder.get('host', 'another machine')}"
    since = holder.get("time")
    moment = f" since {time.strftime('%H:%M:%S', time.localtime(since))}" if isinstance(since, (int, float)) else ""
    return (
        f"{device.name} is being measured by {who}{moment} (process {holder.get('pid', '?')} there); two at once would "
        "spoil both. Wait for it with --wait SECONDS."
    )


async def _require_modules(link: Link, device: Device, job: RemoteJob) -> None:
    """Import the needed modules there before anything is sent. Raises DeviceError when one is missing or broken."""
    modules = list(dict.fromkeys(name for each in job.runtimes(device) for name in _MODULES[each]))
    tried = await link.ask(
        "try", _IMPORT_S, python=device.python, environment=dict(device.environment), modules=modules
    )
    if tried.get("modules") is None:
        raise DeviceError(
            f"Importing {', '.join(modules)} ended Python on {device.name} with code {tried.get('code')}"
            f"{_last_line(tried.get('stderr', ''))}; a wheel there is made for another processor. {_advice(device)}"
        )
    unusable = {name: found for name, found in tried["modules"].items() if not found.get("version")}
    for name, found in unusable.items():
        if not found.get("missing"):
            raise DeviceError(
                f"{name} on {device.name} cannot be imported: {found.get('error')}. It may be made for another "
                f"processor or system. {_advice(device)}"
            )
    if unusable:
        lacking = ", ".join(_PACKAGES.get(name, name) for name in unusable)
        raise DeviceError(f"{device.name} has no {lacking} in {device.python}. {_advice(device)}")


def _advice(device: Device) -> str:
    known = device.name in read_inventory()
    return f"`edgedistill devices check {device.name if known else device.address}` tells what to run there."


async def _sftp(connection: Any, device: Device) -> Any:
    asyncssh = import_asyncssh()
    try:
        return await connection.start_sftp_client()
    except (asyncssh.ChannelOpenError, asyncssh.SFTPError) as error:
        raise DeviceError(
            f"The SSH server of {device.name} offers no SFTP, which carries the files; install openssh-sftp-server "
            "there."
        ) from error


async def _measure(link: Link, device: Device, job: RemoteJob, contents: _Contents, progress: Progress) -> Event:
    """Start the device part, pass on its progress, and return how it ended."""
    request = {
        **job.request(device),
        "task": job.task,
        "device": device.name,
        "bundle": job.bundle.path.resolve().name,
        "limit_s": device.time_limit_s,
        "watch": True,
    }
    started = await link.ask(
        "run",
        python=device.python,
        environment=dict(device.environment),
        wheel=contents.wheel.sha256,
        files={path: item.sha256 for path, item in contents.files.items()},
        request=request,
    )
    refused: dict[str, Any] | None = None
    deadline_ns = MACHINE_CLOCK.now_ns() + (device.time_limit_s + _GRACE_S) * 1e9
    where = f" on {device.name}"
    silence = Silence(lambda silent_s: progress(0, 0, describe_silence(silent_s, started["pid"], where)))
    listening = asyncio.get_running_loop().create_task(_listen(silence))
    try:
        while True:
            event = await link.hear(max(1.0, (deadline_ns - MACHINE_CLOCK.now_ns()) / 1e9))
            silence.heard()
            line = event.get("line", {})
            if event["event"] == "ended":
                break
            if line.get("progress"):
                progress(*line["progress"])
            refused = line.get("error") or refused
    finally:
        listening.cancel()
    _require_done(device, event, refused)
    return event


async def _listen(silence: Silence) -> None:
    while True:
        await asyncio.sleep(QUIET_S / 4)
        silence.look()


def _require_done(device: Device, ended: Event, refused: Mapping[str, Any] | None) -> None:
    """Raise the error that the device part sent, or one that explains its end, unless it ended with a result."""
    if refused is not None:
        cause = read_error(refused)
        raise DeviceError(f"{device.name}: {cause}") from cause
    if ended["code"] < 0:
        raise DeviceError(
            f"The measurement on {device.name} was killed by signal {-ended['code']}, from outside or because memory "
            "ran out; nothing unfinished was taken for a result. Free memory there and run it again."
        )
    if ended["code"] != 0 or not ended["result"]:
        raise DeviceError(
            f"The measurement on {device.name} ended with code {ended['code']} and without a "
            f"result{_last_line(ended['stderr'])}."
        )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return f" ({lines[-1][:300]})" if lines else ""


async def _pull(sftp: Any, device: Device, ended: Event) -> bytes:
    """Fetch the result and check its size and sha256."""
    described = ended["result"]
    if described["bytes"] > _MOST_RESULT_BYTES:
        raise DeviceError(f"{device.name} offers a result of {described['bytes']} bytes; that is too large.")
    async with sftp.open(described["path"], "rb") as stream:
        data: bytes = await asyncio.wait_for(stream.read(described["bytes"] + 1, 0), _PULL_S)
    if hashlib.sha256(data).hexdigest() != described["sha256"]:
        raise DeviceError(f"The result from {device.name} arrived damaged; run it again.")
    return data


def _read_result(data: bytes, device: Device, task: str) -> dict[str, Any]:
    """Return the result of the task. Raises DeviceError unless all its records name this device."""
    kind, name_in = _KINDS[task]
    try:
        result = read_result(data, kind)
    except DataError as error:
        reason = str(error)
    else:
        names = {result["machine"]["name"], *map(name_in, result["records"])}
        if names <= {device.name, f"{device.name}-emulated"}:
            return result
        reason = f"it names {', '.join(sorted(names))[:100]}"
    raise DeviceError(f"What {device.name} sent is no result of {task} ({reason}); check whose device it is.")


async def _close(link: Link, keep: bool) -> None:
    """Let the keeper clean up; on a device that is gone it does so by itself."""
    if link.is_gone:
        return
    with contextlib.suppress(EdgeDistillError, OSError):
        link.send("close", keep=keep)
        while (await link.hear(10.0))["event"] != "closed":
            pass
