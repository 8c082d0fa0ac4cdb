"""The devices that are measured over SSH: `devices.toml`, for the user and for the project, and ssh:// addresses.

A file holds one table for each device, [devices.NAME], with the fields of `Device`. A device of the project's file,
./devices.toml, replaces the user's device of the same name. Passwords are never used, only keys and the agent.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.files.text import parse_toml, read_text, read_toml
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.runtimes.opening import RUNTIMES
from edgedistill_deploy.runtimes.providers import parse_provider

FILE_NAME = "devices.toml"
_INVENTORY = "inventory"  # what a message calls the file
POWER_READERS = ("auto", "none", "tegrastats", "ina3221", "vcgencmd", "rapl")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_SECRETS = ("password", "passphrase", "passwd", "secret")
_TEXTS = ("host", "user", "key", "known_hosts", "runtime", "provider", "python", "work", "power", "notes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a device is and how it measures.

    Args:
        name: used in tables, records and file names.
        host, port, user, key, known_hosts: as for ssh; None leaves them to ~/.ssh/config and its defaults.
        runtime, provider: used when the command names none.
        python: a Python with numpy, Pillow and the runtime, or a script that starts one.
        work: the folder for the files that are sent; ~ is the home there.
        environment: variables for the process that measures.
        power: one of `POWER_READERS`.
        keep: leave the files there for the next time.
        time_limit_s: the device stops a measurement after so many seconds.

    Raises UsageError for values outside these.
    """

    name: str
    host: str
    port: int | None = None
    user: str | None = None
    key: str | None = None
    known_hosts: str | None = None
    runtime: str = "onnxruntime"
    provider: str = "cpu"
    python: str = "python3"
    work: str = "~/.cache/edgedistill-device"
    environment: Mapping[str, str] = field(default_factory=dict)
    power: str = "auto"
    keep: bool = False
    time_limit_s: float = 3600.0
    notes: str = ""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise UsageError(
                f"{self.name!r} cannot name a device; use up to 40 letters, digits, dots, dashes and underscores."
            )
        for problem in _problems(self):
            raise UsageError(f"Device {self.name}: {problem}")

    @property
    def address(self) -> str:
        """The ssh:// address, for messages."""
        user, port = f"{self.user}@" if self.user else "", f":{self.port}" if self.port else ""
        return f"ssh://{user}{f'[{self.host}]' if ':' in self.host else self.host}{port}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**asdict(self), "environment": dict(self.environment)}


def inventory_paths() -> dict[str, Path]:
    """Return the inventory's file for each level, "user" and "project"."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return {"user": Path(home) / "edgedistill" / FILE_NAME, "project": Path(FILE_NAME)}


def read_inventory() -> dict[str, tuple[Device, Path]]:
    """Return every device by name, with its file. Raises UsageError that names the file, the device and the key."""
    found: dict[str, tuple[Device, Path]] = {}
    for path in inventory_paths().values():
        found.update({name: (device, path) for name, device in _read(path).items()})
    return dict(sorted(found.items()))


def find_device(target: str) -> Device:
    """Return the device of a name, or the one at ssh://user@host[:port]. Raises UsageError for anything else."""
    if "://" in target:
        return _at_address(target)
    known = read_inventory()
    if target not in known:
        raise UsageError(
            f"There is no device {target!r} in {FILE_NAME}.{nearest_names(target, known)} Add it with `edgedistill "
            f"devices add {target} --host HOST`, or give ssh://user@host[:port]."
        )
    return known[target][0]


def add_device(device: Device, level: str = "user") -> Path:
    """Write a device at the end of a level's file; return the file. Raises UsageError if the name is used there."""
    import tomli_w

    path = inventory_paths()[level]
    if device.name in _read(path):
        raise UsageError(
            f"{path} has a device {device.name} already; remove it with `edgedistill devices remove {device.name}`, or "
            "choose another name."
        )
    default = {each.name: each.default for each in fields(Device)} | {"name": device.name}
    values = {key: value for key, value in device.to_json().items() if value not in (None, {}, default[key])}
    before = read_text(path, _INVENTORY).rstrip() + "\n\n" if path.exists() else ""
    write_text(path, before + tomli_w.dumps({"devices": {device.name: values}}))
    return path


def remove_device(name: str) -> Path:
    """Remove a device from its file without changing the rest; return the file."""
    import tomli_w

    known = read_inventory()
    if name not in known:
        raise UsageError(f"There is no device {name!r} to remove.{nearest_names(name, known)}")
    path = known[name][1]
    text = read_text(path, _INVENTORY)
    tables = parse_toml(text, f"The {_INVENTORY} {path}")
    del tables["devices"][name]
    shorter = _without_table(text, name)
    # A table in an unusual form is parsed and the file written anew, which only loses comments.
    write_text(path, shorter if _same_tables(shorter, tables) else tomli_w.dumps(tables))
    return path


def _read(path: Path) -> dict[str, Device]:
    if not path.is_file():
        return {}
    tables = read_toml(path, _INVENTORY)
    for name in tables:
        if name != "devices":
            raise UsageError(f"{path}: {name} is not known; each device is a table [devices.NAME].")
    found = tables.get("devices", {})
    if not isinstance(found, dict) or not all(isinstance(table, dict) for table in found.values()):
        raise UsageError(f"{path}: each device must be a table, [devices.NAME].")
    return {name: _device(name, table, path) for name, table in found.items()}


def _device(name: str, table: Mapping[str, Any], path: Path) -> Device:
    known = [each.name for each in fields(Device) if each.name != "name"]
    for key in table:
        if key in _SECRETS:
            raise UsageError(
                f"{path}: devices.{name}.{key} is refused: secrets are not kept in files; use a key, and ssh-agent for "
                "its passphrase."
            )
        if key not in known:
            raise UsageError(f"{path}: devices.{name}.{key} is not known.{nearest_names(key, known)}")
    if "host" not in table:
        raise UsageError(f'{path}: devices.{name} lacks its host; write host = "ADDRESS".')
    return Device(name=name, **table)


def _problems(device: Device) -> Iterator[str]:
    for key in _TEXTS:
        value = getattr(device, key)
        if value is not None and (not isinstance(value, str) or any(letter in value for letter in "\0\r\n")):
            yield f"{key} is {value!r}; it must be text of one line."
            return
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:%-]*", device.host):
        yield f"host is {device.host!r}; it must be a name or an address."
    if device.port is not None and (type(device.port) is not int or not 1 <= device.port <= 65535):
        yield f"port is {device.port!r}; it must lie between 1 and 65535."
    if device.user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@$-]*", device.user):
        yield f"user is {device.user!r}; it must be a login name."
    for key in ("python", "work"):
        if not getattr(device, key):
            yield f"{key} is empty; leave it out for the default."
    if device.runtime not in RUNTIMES:
        yield f"runtime is {device.runtime!r}.{nearest_names(device.runtime, RUNTIMES)}"
    elif device.runtime == "onnxruntime":
        try:
            parse_provider(device.provider)
        except UsageError as error:
            yield str(error)
    if device.power not in POWER_READERS:
        yield f"power is {device.power!r}.{nearest_names(device.power, POWER_READERS)}"
    if type(device.keep) is not bool:
        yield f"keep is {device.keep!r}; it must be true or false."
    limit = device.time_limit_s
    if type(limit) not in (int, float) or not 0 < limit < float("inf"):
        yield f"time_limit_s is {limit!r}; it must be a number of seconds above 0."
    yield from _environment_problems(device.environment)


def _environment_problems(environment: Any) -> Iterator[str]:
    if not isinstance(environment, Mapping):
        yield f'environment is {environment!r}; it must be a table of NAME = "value".'
        return
    for key, value in environment.items():
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) or "\0" in value:
            yield f"environment.{key} is {value!r}; names are letters, digits and underscores, and values are text."


def _at_address(target: str) -> Device:
    try:
        parts = urlsplit(target)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{target!r} is no address: {error}; write ssh://user@host[:port].") from error
    if parts.password is not None:
        raise UsageError(
            "An address must not carry a password: others could read it. Use a key; ssh-copy-id puts one on the device."
        )
    if parts.scheme != "ssh" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"{target!r} is no address of a device; write ssh://user@host[:port].")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", parts.hostname).strip("-.") or "device"
    suffix = "" if port in (None, 22) else f"-{port}"
    return Device(name=name[: 40 - len(suffix)] + suffix, host=parts.hostname, port=port, user=parts.username)


def _without_table(text: str, name: str) -> str:
    """Cut the lines from [devices.NAME], or from a table in it, to the next header."""
    kept, cutting = [], False
    header = re.compile(rf'\[devices\.(?:{re.escape(name)}|"{re.escape(name)}")(?:\..*)?\]\s*(#.*)?')
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            cutting = header.fullmatch(line.strip()) is not None
        if not cutting:
            kept.append(line)
    return "".join(kept)


def _same_tables(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        found = parse_toml(text, _INVENTORY)
    except UsageError:
        return False
    return bool(found.get("devices", {}) == wanted["devices"])
