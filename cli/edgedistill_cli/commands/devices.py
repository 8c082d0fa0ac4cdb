"""`devices`: list, change and check the machines that are measured over SSH."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.flags import CommandGroup, Without, flag, with_flags
from edgedistill_cli.options import not_none

devices = typer.Typer(
    name="devices",
    help="The devices of devices.toml: add, list, check and remove them.",
    cls=CommandGroup,
    no_args_is_help=True,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)]
Host = Annotated[str, flag("--host", "HOST", "Its name or address.")]
Port = Annotated[int | None, flag("--port", "N", "Of its SSH server.")]
User = Annotated[str | None, flag("--user", "NAME", "Who logs in.")]
Key = Annotated[str | None, flag("--key", "FILE", "The private key, by path.")]
KnownHosts = Annotated[str | None, flag("--known-hosts", "FILE", "Where its host key is written down.")]
RuntimeOf = Annotated[str, flag("--runtime", "NAME", "What runs models there.")]
ProviderOf = Annotated[str, flag("--provider", "NAME", "The runtime's back end.")]
PythonOf = Annotated[str, flag("--python", "PATH", "Its Python with numpy, Pillow and the runtime.")]
Work = Annotated[str | None, flag("--work", "DIR", "Its folder for what is sent, while it measures.")]
Environment = Annotated[list[str] | None, flag("--env", "NAME=VALUE", "For the process that measures.")]
Power = Annotated[str, flag("--power", "READER", "auto, none, tegrastats, ina3221, vcgencmd or rapl.")]
KeepThere = Annotated[bool, typer.Option("--keep", help="Leave what was sent for the next time.")]
Notes = Annotated[str, flag("--notes", "TEXT", "For people.")]
Project = Annotated[bool, typer.Option("--project", help="Write ./devices.toml, not the user's file.")]
# These commands have no further messages, so they take no --verbose.
QuietConsole = Annotated[Console, Without("verbose")]
Names = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME|ssh://user@host]...", help="All devices when none is named.")
]


@devices.command("add")
@with_flags
def add(
    name: Name,
    host: Host,
    *,
    port: Port = None,
    user: User = None,
    key: Key = None,
    known_hosts: KnownHosts = None,
    runtime: RuntimeOf = "onnxruntime",
    provider: ProviderOf = "cpu",
    python: PythonOf = "python3",
    work: Work = None,
    env: Environment = None,
    power: Power = "auto",
    keep: KeepThere = False,
    notes: Notes = "",
    project: Project = False,
    console: QuietConsole,
) -> None:
    """Write a device into devices.toml. There is no place for passwords."""
    from edgedistill_deploy.remote.inventory import Device, add_device

    device = Device(
        name=name,
        host=host,
        runtime=runtime,
        provider=provider,
        python=python,
        environment=_variables(env or []),
        power=power,
        keep=keep,
        notes=notes,
        **not_none(port=port, user=user, key=key, known_hosts=known_hosts, work=work),
    )
    path = add_device(device, "project" if project else "user")
    console.emit({"kind": "device", "schema": 1, "file": str(Path(path).absolute()), "device": device.to_json()})
    console.result(f"{name} is in {path}; see whether it is ready: edgedistill devices check {name}")


@devices.command("list")
@with_flags
def list_devices(console: QuietConsole) -> None:
    """Show the devices of both files; the project's win by name."""
    from edgedistill_deploy.remote.inventory import inventory_paths, read_inventory

    known = read_inventory()
    entries = [{**device.to_json(), "file": str(path)} for device, path in known.values()]
    console.emit({"kind": "device-list", "schema": 1, "devices": entries})
    if not known:
        files = " or ".join(str(path) for path in inventory_paths().values())
        console.result(f"No device is in {files}; `edgedistill devices add NAME --host HOST` adds one.")
        return
    console.table(
        "Devices",
        ["", "address", "runtime", "python", "notes", "file"],
        [
            [name, device.address, f"{device.runtime} {device.provider}", device.python, device.notes, str(path)]
            for name, (device, path) in known.items()
        ],
    )


@devices.command("remove")
@with_flags
def remove(name: Name, console: QuietConsole) -> None:
    """Take a device out of devices.toml. Nothing on the device is touched."""
    from edgedistill_deploy.remote.inventory import remove_device

    path = remove_device(name)
    console.emit({"kind": "device-removed", "schema": 1, "file": str(path.absolute()), "name": name})
    console.result(f"{name} is no longer in {path}.")


@devices.command("check")
@with_flags
def check(*, names: Names = None, console: QuietConsole) -> None:
    """Ask devices over SSH what they are and whether they can measure. Writes and installs nothing there.

    Exit code 0: all are ready; 1: one is not, or cannot be reached.
    """
    from edgedistill_cli.tables.devices import show_check
    from edgedistill_deploy.errors import UsageError
    from edgedistill_deploy.remote.check import check_devices
    from edgedistill_deploy.remote.inventory import find_device, read_inventory

    chosen = [find_device(name) for name in names or read_inventory()]
    if not chosen:
        raise UsageError(
            "There is no device to check; add one with `edgedistill devices add NAME --host HOST`, or give "
            "ssh://user@host."
        )
    console.say(f"asking {', '.join(device.name for device in chosen)}")
    records = check_devices(chosen)
    ready = all(record["verdict"] == "ready" for record in records)
    console.emit({"kind": "device-check-set", "schema": 1, "devices": list(records), "ready": ready})
    for record in records:
        show_check(record, console)
    raise typer.Exit(0 if ready else 1)


def _variables(given: list[str]) -> dict[str, str]:
    from edgedistill_deploy.errors import UsageError

    for each in given:
        if "=" not in each:
            raise UsageError(f"--env takes NAME=VALUE, and {each!r} was given.")
    return dict(each.split("=", 1) for each in given)
