"""Runs in a device's own Python and describes it: sent as source, standard library only, nothing is written there."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any


def probe(given: dict[str, Any]) -> dict[str, Any]:
    """Import the modules, and describe the machine with `hardware/device.py` where this Python can read it."""
    found: dict[str, Any] = {
        "python": list(sys.version_info[:3]),
        "executable": sys.executable,
        "externally_managed": (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists()
        and sys.prefix == sys.base_prefix,
        "venv": sys.prefix != sys.base_prefix,
        "pip": _module("pip").get("version"),
        "modules": {name: _module(name) for name in given["modules"]},
    }
    opened = _load("keeper", given["keeper_source"]).find_open_folder(Path(given["work"]))
    found["open_folder"] = None if opened is None else [str(opened[0]), opened[1]]
    if "version" in found["modules"].get("onnxruntime", {}):
        found["providers"] = list(importlib.import_module("onnxruntime").get_available_providers())
    if tuple(sys.version_info) >= (3, 10):  # device.py needs it
        described = _load("described", given["device_source"])
        found["device"] = described.read_device().to_json()
        found["conditions"] = described.read_conditions()
    return found


def _load(name: str, source: str) -> Any:
    """Return a module of ours from its source."""
    module = types.ModuleType(name)
    sys.modules[name] = module  # dataclasses look up their module
    exec(compile(source, f"{name}.py", "exec"), module.__dict__)  # noqa: S102, our own
    return module


def _module(name: str) -> dict[str, Any]:
    try:
        return {"version": str(getattr(importlib.import_module(name), "__version__", "?"))}
    except BaseException as error:  # noqa: BLE001, a broken wheel may raise anything
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        return {"missing": missing, "error": str(error)[:300]}


def main() -> None:
    """Start a Python in the environment of the request, which a running one cannot enter, and print its answer."""
    request = json.loads(sys.stdin.readline())
    if "source" not in request:
        print(json.dumps(probe(request)))
        return
    source = request.pop("source")
    done = subprocess.run(
        [os.path.expanduser(request["python"]), "-c", source],  # noqa: PTH111, a Path would lose the ./ of ./python
        input=json.dumps(request).encode(),
        env=dict(os.environ, **dict({"ORT_DISABLE_TELEMETRY": "1"}, **request["environment"])),
        capture_output=True,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    crashed = {"python": list(sys.version_info[:3]), "crashed": done.returncode}
    print(lines[-1] if done.returncode == 0 and lines else json.dumps(crashed))


if __name__ == "__main__":
    main()
