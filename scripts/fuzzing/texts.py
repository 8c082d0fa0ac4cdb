"""Damaged settings files, inventories of devices, and files of labels."""

import contextlib
import json
import sys
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from edgedistill_cli.settings_file import read_settings, write_settings
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.text import is_printable
from edgedistill_deploy.remote.inventory import add_device, find_device, read_inventory, remove_device
from fuzzing.kind import Kind, Left, command
from reference.mutations import changed_json, changed_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_INVENTORY = {
    "devices": {
        "pi": {"host": "pi.local", "port": 22, "user": "pi", "environment": {"A": "b"}, "time_limit_s": 60.0},
        "jetson": {
            "host": "10.0.0.7",
            "runtime": "tensorrt",
            "power": "ina3221",
            "keep": True,
            "notes": "on the shelf",
        },
    }
}
_LABELS = 100  # of the embedded teacher


def _prepare_settings(folder: Path) -> None:
    template = resources.files("edgedistill_cli").joinpath("template.toml").read_text(encoding="utf-8")
    (folder / "settings.toml").write_text(template)
    (folder / "devices.toml").write_text(tomli_w.dumps(_INVENTORY))


def _make_settings(random: Random, samples: Path, folder: Path) -> None:
    for name in ("settings.toml", "devices.toml"):
        (folder / name).write_bytes(_changed_toml((samples / name).read_text(), random))


def _changed_toml(text: str, random: Random) -> bytes:
    if random.randint(0, 1):
        return changed_text(text, random)
    tables: Any = tomllib.loads(text)
    for _ in range(random.randint(1, 3)):
        changed = changed_json(tables, random)
        tables = changed if isinstance(changed, dict) and changed else tables
    with contextlib.suppress(Exception):  # TOML has no null, and its writer no half surrogates
        return tomli_w.dumps(tables).encode()
    return json.dumps(tables).encode()


def _examine_settings(random: Random, folder: Path) -> None:
    file = folder / "settings.toml"
    with contextlib.suppress(EdgeDistillError):
        settings = read_settings(file, {})
        write_settings(folder / "again.toml", settings)
        if read_settings(folder / "again.toml", {}) != settings:
            raise Left("settings that are written and read again are others")
    if random.randint(0, 19) == 0:
        command(random, "distill", "--config", file, "--data", folder / "none", "--out", folder / "run")
    inventory = Path("devices.toml")
    inventory.write_bytes((folder / "devices.toml").read_bytes())
    try:
        _examine_inventory(random)
    finally:
        inventory.unlink()


def _examine_inventory(random: Random) -> None:
    with contextlib.suppress(EdgeDistillError):
        known = read_inventory()
        for name, (device, _) in known.items():
            if find_device(name) != device:
                raise Left("a device that is found is another")
            json.dumps(device.to_json())
        for name in known:
            remove_device(name)
        for device, _ in known.values():
            add_device(device, "project")
        if {name: device for name, (device, _) in read_inventory().items()} != {
            name: device for name, (device, _) in known.items()
        }:
            raise Left("devices that are removed and added again are others")
    command(random, "devices", "list")


def _prepare_labels(folder: Path) -> None:
    from edgedistill.models.teacher import load_teacher

    names = load_teacher("embedded:glyphs100").class_names
    (folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def _make_labels(random: Random, samples: Path, folder: Path) -> None:
    text = (samples / "labels.txt").read_text(encoding="utf-8")
    content = changed_text(text, random)
    if random.randint(0, 1):  # the right number of lines, so that more than the count is looked at
        lines = content.splitlines()[:_LABELS]
        content = b"\n".join([*lines, *(str(number).encode() for number in range(_LABELS - len(lines)))])
    (folder / "labels.txt").write_bytes(content)


def _examine_labels(random: Random, folder: Path) -> None:
    import torch

    from edgedistill.models.teacher import load_teacher

    torch.set_num_threads(1)
    with contextlib.suppress(EdgeDistillError):
        teacher = load_teacher("embedded:glyphs100", classes=folder / "labels.txt")
        names = [random.choice(teacher.class_names) for _ in range(3)]
        json.dumps(names, ensure_ascii=False).encode()
        with contextlib.suppress(EdgeDistillError):
            teacher.subtask(names)
        if not all(map(is_printable, teacher.class_names)):
            raise Left("a label that steers a terminal is taken")


SETTINGS = Kind(name="settings", weight=2.0, prepare=_prepare_settings, make=_make_settings, examine=_examine_settings)
LABELS = Kind(name="labels", weight=1.0, prepare=_prepare_labels, make=_make_labels, examine=_examine_labels)
