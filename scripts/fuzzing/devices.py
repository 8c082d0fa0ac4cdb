"""What a device sends back: the events of the keeper, progress, errors and results, each damaged.

The whole command runs against a played connection, which answers every command soundly except for what was drawn.
"""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.hardware.device import read_conditions, read_device
from fuzzing.bundles import prepare_bundle
from fuzzing.kind import Kind, command
from reference.hostile_bundles import copy_of
from reference.mutations import changed_bytes, changed_json
from reference.report_bundles import latency_record, parity_record

_NAME = "played"
_ADDRESS = f"ssh://somebody@{_NAME}"
_SHELL = {"architecture": "aarch64", "kernel": "6.1", "cpu_count": "4", "memory_kb": "800000", "free_kb": "9000000"}


def _make(random: Random, samples: Path, folder: Path) -> None:
    """Write the script of a device: its answers to a task, of which some are damaged."""
    bundle = open_bundle(copy_of(samples / "bundle", folder / "bundle"), verify=False)
    task = random.choice(("profile", "validate", "check"))
    script: dict[str, Any] = {"task": task, "events": _events(), "shell": {**_SHELL, "python_starts": "yes"}}
    script["probe"] = {
        "python": [3, 11, 2],
        "executable": "/usr/bin/python3",
        "modules": {name: {"version": "1.0"} for name in ("numpy", "PIL", "onnxruntime")},
        "providers": ["CPUExecutionProvider"],
        "device": read_device().to_json(),
        "conditions": read_conditions(),
    }
    result = _result(task, bundle)
    for _ in range(random.randint(0, 2)):
        result = changed_json(result, random)
    for _ in range(random.randint(0, 2)):
        part = random.choice(("probe", "shell", "lines") if task == "check" else ("events",) * 3 + ("lines",))
        if part in script:
            script[part] = changed_json(script[part], random)
        else:
            script["noise"] = changed_bytes(b'{"event": "said", "line": {"progress": [1, 2, "x"]}}', random).decode(
                "latin-1"
            )
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "script.json").write_text(json.dumps(script))


def _events() -> dict[str, Any]:
    modules = {name: {"version": "1.0"} for name in ("numpy", "PIL", "onnxruntime")}
    return {
        "ready": {"event": "ready", "python": [3, 11, 2]},
        "open": {
            "event": "opened",
            "work": "/work",
            "pid": 7,
            "free_bytes": 10**10,
            "machine": "x",
            "python": [3, 11, 2],
        },
        "locked": None,
        "try": {"event": "tried", "python": [3, 11, 2], "modules": modules},
        "look": {"event": "found", "kept": [], "parts": {}, "free_bytes": 10**10},
        "settle": {"event": "settled", "damaged": []},
        "run": {"event": "started", "pid": 8, "folder": "/home/ada/runs/1"},
        "free": {"event": "free", "free_bytes": 10**10},
        "close": {"event": "closed"},
        "lines": [
            {"event": "said", "line": {"progress": [1, 3, "fp32, batch 1"]}},
            {"event": "said", "line": {"done": True}},
            {"event": "ended", "code": 0, "stderr": "", "result": {"path": "/home/ada/result.json"}},
        ],
    }


def _result(task: str, bundle: Any) -> dict[str, Any]:
    machine, sha256 = {**read_device().to_json(), "name": _NAME}, bundle.model_sha256("model.fp32")
    if task == "validate":
        record: dict[str, Any] = parity_record(bundle, "fp32", model_sha256=sha256)
        record = {**record, "device": _NAME, "machine": machine}
        return {"kind": "parity-set", "schema": 1, "records": [record], "chain": None, "machine": machine}
    record = latency_record(bundle, "fp32", model_sha256=sha256)
    record = {**record, "device": {**record["device"], "name": _NAME}, "samples_ms": record["samples_ms"][:20]}
    return {"kind": "latency-set", "schema": 1, "records": [record], "machine": machine}


class _Played:
    """A connection whose other end follows a script."""

    def __init__(self, folder: Path) -> None:
        script = json.loads((folder / "script.json").read_text())
        self._script = script if isinstance(script, dict) else {}
        self._result = (folder / "result.json").read_bytes()
        self._lines: list[str] = []
        self.stdin, self.stdout, self.stderr = self, self, SimpleNamespace(read=self._nothing)
        self.exit_status, self.exit_signal = 1, None

    async def create_process(self, command: str, **options: Any) -> "_Played":
        """Start the keeper, which says that it is ready."""
        self._answer("ready")
        return self

    async def run(self, command: str, **options: Any) -> SimpleNamespace:
        """Answer the shell's questions."""
        shell = self._script.get("shell")
        told = shell.items() if isinstance(shell, dict) else [("", shell)]
        return SimpleNamespace(stdout="".join(f"{key}\t{value}\n" for key, value in told))

    async def wait(self) -> SimpleNamespace:
        """Answer the probe."""
        return SimpleNamespace(stdout=f"{self._script.get('noise', '')}\n{json.dumps(self._script.get('probe'))}\n")

    async def start_sftp_client(self) -> "_Played":
        """Offer files."""
        return self

    def exit(self) -> None:
        """End the file transfer."""

    def write(self, text: Any, place: int | None = None) -> Any:
        """Take a command, or the content of a file."""
        if place is not None:
            return self._nothing()
        with contextlib.suppress(ValueError):
            given = json.loads(text)
            if isinstance(given, dict) and given.get("do") != "beat":
                self._answer(str(given.get("do")))
        return None

    def write_eof(self) -> None:
        """Take the end of the input."""

    async def readline(self) -> str:
        """Return the next line; nothing when all is said."""
        return self._lines.pop(0) if self._lines else ""

    async def wait_closed(self) -> None:
        """Be closed at once."""

    async def read(self, count: int, place: int = 0) -> bytes:
        """Return the content of the result."""
        return self._result[:count]

    async def close(self) -> None:
        """Close a file."""

    async def _nothing(self, *arguments: Any) -> str:
        return ""

    def open(self, path: Any, mode: str) -> Any:
        """Return a file that can be awaited, to write, or entered, to read."""
        return _File(self)

    def _answer(self, do: str) -> None:
        events = self._script.get("events")
        events = events if isinstance(events, dict) else {"ready": events}
        if do in events:
            self._lines.append(json.dumps(events[do]) + "\n")
        lines = events.get("lines")
        if do == "run" and isinstance(lines, list):
            self._lines.append(f"{self._script.get('noise', '')}\n")
            self._lines.extend(json.dumps(self._described(event)) + "\n" for event in lines)

    def _described(self, event: Any) -> Any:
        """Make the last event describe the result as it is, so that what is in it is looked at."""
        result = event.get("result") if isinstance(event, dict) else None
        if isinstance(result, dict) and "bytes" not in result:
            result.update(sha256=hashlib.sha256(self._result).hexdigest(), bytes=len(self._result))
        return event


class _File:
    """A file of the played device."""

    def __init__(self, device: _Played) -> None:
        self._device = device

    def __await__(self) -> Any:
        return asyncio.sleep(0, self._device).__await__()

    async def __aenter__(self) -> _Played:
        return self._device

    async def __aexit__(self, *exception: object) -> None:
        return None


def _examine(random: Random, folder: Path) -> None:
    @contextlib.asynccontextmanager
    async def connect(device: Any) -> AsyncIterator[_Played]:
        yield _Played(folder)

    script = json.loads((folder / "script.json").read_text())
    task = script.get("task") if isinstance(script, dict) else "check"
    with (
        mock.patch("edgedistill_deploy.remote.jobs.connect", connect),
        mock.patch("edgedistill_deploy.remote.check.connect", connect),
        mock.patch("fuzzing.kind.OUTSIDE_SHARE", 0.0),
    ):
        if task == "check":
            command(random, "devices", "check", _ADDRESS)
        else:
            flags = ("--budget-ms", "5") if task == "profile" else ("--markdown", folder / "m.md")
            command(random, str(task), folder / "bundle", "--device", _ADDRESS, *flags)
    command(random, "report", folder / "bundle", "--quiet")


DEVICES = Kind(name="devices", weight=3.0, prepare=prepare_bundle, make=_make, examine=_examine)
