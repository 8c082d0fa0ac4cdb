"""The check whether a device is ready to measure, over SSH, without writing, installing or leaving anything there."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.records.writing import SCHEMA
from edgedistill_deploy.remote._advice import missing_on
from edgedistill_deploy.remote._answers import read_holder, read_probe, shown
from edgedistill_deploy.remote._connection import DeviceError, connect, import_asyncssh
from edgedistill_deploy.remote._link import build_strange_error, quote, read_source, start_python
from edgedistill_deploy.remote.inventory import Device

_MODULES = ("numpy", "PIL", "onnxruntime", "tensorrt")
_SHELL_S, _PYTHON_S = 60.0, 300.0

# For any POSIX shell; $1 is the work folder, $2 the Python.
_SHELL = r"""
say() { printf '%s\t%s\n' "$1" "$2"; }
version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null; }
say architecture "$(uname -m)"
say kernel "$(uname -r)"
say system "$(. /etc/os-release 2>/dev/null; echo "$PRETTY_NAME")"
say board "$(cat /proc/device-tree/model 2>/dev/null | tr -d '\000')"
say cpu "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -n 1)"
say cpu_count "$(getconf _NPROCESSORS_ONLN 2>/dev/null)"
say memory_kb "$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo 2>/dev/null)"
say jetson "$(head -n 1 /etc/nv_tegra_release 2>/dev/null)"
say jetpack "$(version nvidia-jetpack)"
say tensorrt "$(version libnvinfer10 || version libnvinfer8)"
say cuda "$(sed -n 's/.*"version" *: *"\([^"]*\)".*/\1/p' /usr/local/cuda/version.json 2>/dev/null | head -n 1)"
say power_mode "$(nvpmodel -q 2>/dev/null | sed -n 's/^NV Power Mode: *//p')"
for each in apt-get dnf apk; do command -v $each >/dev/null 2>&1 && say installer $each && break; done
for each in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
  command -v $each >/dev/null 2>&1 && say other_python $each
done
folder=$1
while [ ! -d "$folder" ] && [ "$folder" != / ] && [ "$folder" != . ]; do folder=$(dirname "$folder"); done
say free_kb "$(df -Pk "$folder" 2>/dev/null | sed -n '2s/^[^ ]* *[0-9]* *[0-9]* *\([0-9]*\).*/\1/p')"
say lock "$(cat "$1/lock/owner.json" 2>/dev/null | tr -d '\n')"
"$2" -c 'print(1)' >/dev/null 2>&1 && say python_starts yes
true
"""


def check_devices(devices: Sequence[Device]) -> tuple[dict[str, Any], ...]:
    """Check all devices at once and return a record for each: kind "device-check", schema 1.

    `verdict` is "ready", "not-ready" with what is missing and the commands for it, or "unreachable" with the reason.
    Raises MissingDependencyError without asyncssh.
    """
    import_asyncssh()
    return tuple(asyncio.run(_all(devices)))


async def _all(devices: Sequence[Device]) -> list[dict[str, Any]]:
    return list(await asyncio.gather(*(_record(device) for device in devices)))


async def _record(device: Device) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": "device-check", "schema": SCHEMA, "name": device.name, "address": device.address}
    try:
        async with connect(device) as connection:
            found = await _read_state(connection, device)
    except EdgeDistillError as error:
        return {**record, "verdict": "unreachable", "error": str(error)}
    missing = [asdict(each) for each in missing_on(device, found)]
    verdict = "not-ready" if missing else "ready"
    return {**record, "verdict": verdict, "error": None, **found, "missing": missing}


async def _read_state(connection: Any, device: Device) -> dict[str, Any]:
    shell = await _ask_shell(connection, device)
    python = await _ask_python(connection, device) if "python_starts" in shell else {}
    described = python.get("device") or {}
    conditions = python.get("conditions") or {}
    return {
        "board": described.get("board") or shell.get("board"),
        "cpu": described.get("cpu") or shell.get("cpu"),
        "cpu_count": described.get("cpu_count") or _number(shell.get("cpu_count")),
        "architecture": described.get("architecture") or shell.get("architecture"),
        "memory_bytes": described.get("memory_bytes") or _number(shell.get("memory_kb"), 1024),
        **{key: described.get(key) for key in ("accelerator", "emulated")},
        "system": described.get("system") or shell.get("system"),
        "kernel": shell.get("kernel"),
        "jetson": described.get("board_release") or shell.get("jetson"),
        **{key: shell.get(key) for key in ("jetpack", "cuda", "tensorrt")},
        "power_mode": conditions.get("power_mode") or shell.get("power_mode"),
        **{key: conditions.get(key) for key in ("governor", "temperature", "throttling", "load")},
        "free_bytes": _number(shell.get("free_kb"), 1024),
        "sftp": await _has_sftp(connection),
        "open_folder": python.get("open_folder"),
        "lock": _lock(shell.get("lock")),
        "python": _python(device, python),
        "modules": python.get("modules") or {},
        "providers": python.get("providers"),
        "installer": shell.get("installer"),
        "other_pythons": shell.get("other_python", "").split(),
    }


async def _ask_shell(connection: Any, device: Device) -> dict[str, str]:
    """Return the values that the shell prints, by key; unknown ones are absent."""
    asyncssh = import_asyncssh()
    command = f"sh -s {quote(device.work)} {quote(device.python)}"
    try:
        done = await connection.run(command, input=_SHELL, timeout=_SHELL_S, errors="replace")
    except (asyncssh.Error, OSError) as error:
        raise DeviceError(f"{device.name} runs no shell command: {error}.") from error
    found: dict[str, str] = {}
    for line in str(done.stdout).splitlines():
        key, tab, value = line.partition("\t")
        if tab and value.strip():
            value = str(shown(value.strip()))
            found[key] = f"{found[key]} {value}" if key in found else value
    return found


async def _ask_python(connection: Any, device: Device) -> dict[str, Any]:
    source = read_source("remote", "_probe.py")
    request = {
        "source": source,
        "python": device.python,
        "environment": dict(device.environment),
        "modules": list(_MODULES),
        "device_source": read_source("hardware", "device.py"),
        "keeper_source": read_source("remote", "_keeper.py"),
        "work": device.work,
    }
    process = await start_python(connection, device, source)
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.write_eof()
    try:
        done = await asyncio.wait_for(process.wait(), _PYTHON_S)
    except asyncio.TimeoutError as error:
        raise DeviceError(f"The Python of {device.name} did not answer for {_PYTHON_S:.0f} s.") from error
    for line in reversed(str(done.stdout).splitlines()):
        try:
            answer = read_probe(line)
        except DataError as error:
            raise build_strange_error(device, error) from error
        if answer is not None:
            return answer
    return {}


def _python(device: Device, answer: dict[str, Any]) -> dict[str, Any] | None:
    if "python" not in answer:
        return None
    return {
        "path": device.python,
        "version": answer["python"],
        "externally_managed": answer.get("externally_managed", False),
        "venv": answer.get("venv", False),
        "pip": answer.get("pip"),
        "crashed": answer.get("crashed"),
    }


async def _has_sftp(connection: Any) -> bool:
    asyncssh = import_asyncssh()
    try:
        (await connection.start_sftp_client()).exit()
    except (asyncssh.Error, OSError):
        return False
    return True


def _lock(text: str | None) -> dict[str, Any] | None:
    """Return who measures there now, or who was killed while measuring there last."""
    return read_holder(text) if text else None


def _number(text: str | None, unit: int = 1) -> int | None:
    return int(text) * unit if text and re.fullmatch("[0-9]{1,18}", text) else None
