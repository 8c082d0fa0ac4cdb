"""An SSH connection to a device: by keys and the agent, to known hosts only, with a sentence for every refusal."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError
from edgedistill_deploy.remote.inventory import Device

CONNECT_S = 15.0
KEEPALIVE_S, KEEPALIVE_COUNT = 15, 4  # a link that is silent for a minute is closed

_SYSTEM_KNOWN_HOSTS = Path("/etc/ssh/ssh_known_hosts")


class DeviceError(EdgeDistillError):
    """A device cannot be reached, or did not finish what it was asked to do."""


@contextlib.asynccontextmanager
async def connect(device: Device) -> AsyncIterator[Any]:
    """Yield an asyncssh connection, and close it at the end. Raises DeviceError, which says what to do.

    ~/.ssh/config applies, except what would weaken the check of the host key.
    """
    asyncssh = import_asyncssh()
    with _explain_failures(device):
        connection = await _connect(asyncssh, device)
    try:
        yield connection
    finally:
        connection.close()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(connection.wait_closed(), 2)
        connection.abort()


def import_asyncssh() -> Any:
    """Return the library. Raises MissingDependencyError."""
    try:
        import asyncssh
    except ImportError as error:
        raise MissingDependencyError("asyncssh", "remote", "Reaching a device over SSH") from error
    return asyncssh


async def _connect(asyncssh: Any, device: Device) -> Any:
    options = {
        "known_hosts": _find_known_hosts(asyncssh, device),
        "preferred_auth": "publickey",
        "password_auth": False,
        "kbdint_auth": False,
        "connect_timeout": CONNECT_S,
        "login_timeout": CONNECT_S,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVE_COUNT,
    }
    if device.key:
        options["client_keys"] = [str(Path(device.key).expanduser())]
        options["agent_path"] = None  # only the key that is named
    if device.port is not None:
        options["port"] = device.port
    if device.user is not None:
        options["username"] = device.user
    try:
        return await asyncssh.connect(device.host, **options)
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise await _host_key_problem(asyncssh, device, error) from error


@contextlib.contextmanager
def _explain_failures(device: Device) -> Iterator[None]:
    """Turn an error before there is a connection into a DeviceError with a sentence."""
    asyncssh = import_asyncssh()
    where = f"{device.name} ({device.address})"
    port = device.port or 22
    try:
        yield
    except socket.gaierror as error:
        raise DeviceError(
            f"The name of {where} cannot be resolved: {error.strerror}; correct host in devices.toml, or give an "
            "address."
        ) from error
    except ConnectionRefusedError as error:
        raise DeviceError(
            f"{where} refuses connections to port {port}; start its SSH server (sudo systemctl enable --now ssh), or "
            "correct the port."
        ) from error
    except (TimeoutError, asyncio.TimeoutError, asyncssh.TimeoutError) as error:
        raise DeviceError(
            f"{where} did not answer within {CONNECT_S:.0f} s; check that it is on and reachable: ping {device.host}."
        ) from error
    except asyncssh.PermissionDenied as error:
        raise DeviceError(_describe_denial(device, where)) from error
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
        raise DeviceError(_describe_bad_key(device, str(error))) from error
    except (asyncssh.ConnectionLost, ConnectionResetError) as error:
        raise DeviceError(
            f"{where} closed the connection before it was set up ({error}); check that it is an SSH server, and "
            "read its log: sudo journalctl -u ssh."
        ) from error
    except FileNotFoundError as error:
        raise DeviceError(
            f"{where}: there is no file {error.filename}; correct key or known_hosts of the device."
        ) from error
    except (OSError, asyncssh.Error) as error:
        raise DeviceError(f"{where} cannot be reached: {str(error) or type(error).__name__}.") from error


def _describe_denial(device: Device, where: str) -> str:
    key = device.key or "~/.ssh/id_ed25519"
    port = f"-p {device.port} " if device.port else ""
    login = f"{device.user}@{device.host}" if device.user else device.host
    offered = f"the key {device.key}" if device.key else "every key of the agent and of ~/.ssh"
    return (
        f"{where} refuses {offered}; passwords are never used. Put the key there: ssh-copy-id -i {key}.pub "
        f"{port}{login}, or name another with key in devices.toml."
    )


def _describe_bad_key(device: Device, reason: str) -> str:
    if "assphrase" in reason or "ncrypted" in reason:
        return (
            f"The key {device.key} is locked with a passphrase; hand it to the agent, ssh-add {device.key}, and leave "
            "key out of devices.toml."
        )
    return f"The key {device.key} cannot be read: {reason}."


async def _host_key_problem(asyncssh: Any, device: Device, error: Exception) -> EdgeDistillError:
    """Return the error for an unknown or a changed host key, with its fingerprint and what to do."""
    port, file, known = device.port or 22, _own_known_hosts(device), _find_known_hosts(asyncssh, device)
    try:
        key = await asyncio.wait_for(asyncssh.get_server_host_key(device.host, port), CONNECT_S)
        shown = f"{key.get_algorithm()} {key.get_fingerprint()}" if key else "unknown"
    except (OSError, asyncssh.Error, asyncio.TimeoutError):
        shown = "unknown"
    if any(asyncssh.match_known_hosts(known, device.host, "", port)):
        stored = f"[{device.host}]:{port}" if port != 22 else device.host
        return DeviceError(
            f"THE HOST KEY OF {device.name} ({device.address}) HAS CHANGED: {shown} is not the one in {file}. Somebody "
            "may be listening in, or the device was set up again. Nothing was sent. Only if you know why, forget the "
            f'old key: ssh-keygen -f {file} -R "{stored}".'
        )
    if not isinstance(error, asyncssh.HostKeyNotVerifiable):
        return DeviceError(f"{device.name} ({device.address}) cannot be reached: {error}.")
    return DeviceError(
        f"The host key of {device.name} ({device.address}) is not known: {shown}. Compare it on the device (ssh-keygen "
        f"-lf /etc/ssh/ssh_host_ed25519_key.pub), then accept it: ssh-keyscan -p {port} {device.host} >> {file}."
    )


def _find_known_hosts(asyncssh: Any, device: Device) -> Any:
    """Return the files that may hold the device's host key, as asyncssh takes them."""
    candidates = [_own_known_hosts(device), *([] if device.known_hosts else [_SYSTEM_KNOWN_HOSTS])]
    return [str(path) for path in candidates if path.is_file()] or asyncssh.import_known_hosts("")


def _own_known_hosts(device: Device) -> Path:
    """Return the file that is the device's own in the inventory, or else the user's."""
    return Path(device.known_hosts or "~/.ssh/known_hosts").expanduser()
