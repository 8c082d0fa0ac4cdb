"""A real OpenSSH server on loopback, with throw-away keys, and a proxy in front of it that can cut or count what
passes."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SshServer:
    """Where it listens, and the files that open it to a client."""

    port: int
    folder: Path
    process: "subprocess.Popen[bytes]"

    @property
    def key(self) -> Path:
        return self.folder / "client"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def settings(self, port: int | None = None, **others: object) -> dict[str, object]:
        """The fields of a device that is this server."""
        given = {
            "host": "127.0.0.1",
            "port": port or self.port,
            "user": getuser(),
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
        }
        return {**given, **others}

    def trust(self, port: int, file: Path | None = None) -> None:
        """Write the server's host key down for a port, as a proxy's clients need it."""
        key = (self.folder / "host.pub").read_text(encoding="utf-8")
        with (file or self.known_hosts).open("a", encoding="utf-8") as stream:
            stream.write(f"[127.0.0.1]:{port} {key}")


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def ssh_server(folder: Path, *others: str, sftp: bool = True) -> Iterator[SshServer]:
    """Start sshd on a free port with keys of its own and other lines of configuration; end it and its sessions."""
    assert SSHD is not None
    folder.mkdir(mode=0o700, exist_ok=True)
    make_key(folder / "host")
    make_key(folder / "client")
    shutil.copy(folder / "client.pub", folder / "authorized_keys")
    port = free_port()
    config = folder / "sshd_config"
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {folder / 'host'}",
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'sshd.pid'}",
        "StrictModes no",
        "UsePAM no",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin prohibit-password",
        "MaxStartups 100",
        *(["Subsystem sftp internal-sftp"] if sftp else []),
        *others,
    ]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(config)], stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        _wait_for(port, process, folder / "log.txt")
        server = SshServer(port=port, folder=folder, process=process)
        server.trust(port)
        yield server
    finally:
        for child in children_of(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait()


def _wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(2400):  # two minutes: a busy machine is slow, not wrong
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start: {log.read_text(encoding='utf-8', errors='replace')}")


def children_of(pid: int) -> list[int]:
    """Return all descendants of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [pid]
    while waiting:
        for child in parents.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def processes_naming(text: str) -> list[int]:
    """Return the processes whose command line or working folder holds the text."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            if text in words or text in str((entry / "cwd").readlink()):
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@dataclass(slots=True, kw_only=True)
class Proxy:
    """Passes TCP on to a port, counts the bytes to it, and cuts everything after `cut_after` of them."""

    target: int
    cut_after: int | None = None
    stalled: bool = False
    sent_bytes: int = 0
    port: int = 0
    _sockets: list[socket.socket] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> "Self":
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, server]
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.stalled and self._sockets:
                    time.sleep(0.02)
                sink.sendall(data)
                if counted:
                    self.sent_bytes += len(data)
                    if self.cut_after is not None and self.sent_bytes > self.cut_after:
                        self.cut()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
