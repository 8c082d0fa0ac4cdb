"""The table of what a check found on a device."""

from collections.abc import Mapping
from typing import Any

from edgedistill_cli.console import Console
from edgedistill_deploy import wording as words


def show_check(record: Mapping[str, Any], console: Console) -> None:
    """Print what a device is, what it lacks, and the commands that install it."""
    if record["verdict"] == "unreachable":
        console.result(f"{record['name']}: {record['error']}")
        return
    console.table(record["name"], ["", "found"], _check_rows(record))
    if record["lock"]:
        holder = record["lock"]
        console.result(f"{record['name']}: locked by {holder.get('owner')} on {holder.get('host')}.")
    for missing in record["missing"]:
        console.result(f"{record['name']} lacks {missing['what']}: {missing['why']}")
        if missing["command"]:
            console.result(f"  run on {record['name']}: {missing['command']}")
    if record["verdict"] == "ready":
        console.result(f"{record['name']} is ready: edgedistill profile BUNDLE --device {record['name']}")


def _check_rows(record: Mapping[str, Any]) -> list[list[str]]:
    python, modules = record["python"], record["modules"]
    emulated = " (emulated)" if record["emulated"] else ""
    rows = {
        "board": record["board"],
        "processor": f"{record['cpu'] or record['architecture']}, {record['cpu_count']} cores{emulated}",
        "memory": words.size(record["memory_bytes"]),
        "system": f"{record['system']}, {record['architecture']}",
        "accelerator": record["accelerator"],
        "JetPack": record["jetpack"] or record["jetson"],
        "CUDA": record["cuda"],
        "TensorRT": record["tensorrt"] or modules.get("tensorrt", {}).get("version"),
        "power mode": record["power_mode"] or record["governor"],
        "free disk": words.size(record["free_bytes"]),
        "Python": None if python is None else f"{'.'.join(map(str, python['version']))} as {python['path']}",
        "numpy": modules.get("numpy", {}).get("version"),
        "Pillow": modules.get("PIL", {}).get("version"),
        "ONNX Runtime": modules.get("onnxruntime", {}).get("version"),
        "providers": ", ".join(record["providers"] or ()) or None,
    }
    return [[name, value or words.MISSING] for name, value in rows.items()]
