"""Runs on a device while it is measured over SSH: holds the lock, checks the files, starts the measuring, cleans up.

It is sent as source over the connection, so nothing is installed and only the standard library is used. Python 3.7 must
be able to read it, so that an old Python can say that it is too old. Therefore it does not use `lines`: it takes one
JSON command a line and answers with one {"event", ...}. The lines of the measuring are passed on unchanged. It ends
when its input closes or is silent for `_SILENCE_S`, so a client that is gone leaves no running process and no lock.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import platform
import queue
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_SILENCE_S = 120.0
_LOCK_WITHOUT_OWNER_S = 10.0  # after that time without an owner's file, the maker of the lock folder is dead
_STARTED_TICKS = 500  # two readings of one process's start may differ by so much; a reused number differs by far more
_UNUSED_S = 30 * 24 * 3600.0
_TAIL_BYTES = 4000
# From 1.29 on ONNX Runtime's Linux wheels send telemetry and leave files in the home, unless this is set.
_QUIET = {"ORT_DISABLE_TELEMETRY": "1"}
_PRIVATE = 0o700
_IMPORT_TEST = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        module = importlib.import_module(name)
        found[name] = {"version": str(getattr(module, "__version__", "?"))}
    except BaseException as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        found[name] = {"missing": missing, "error": str(error)[:300]}
print(json.dumps({"python": list(sys.version_info[:3]), "modules": found}))
"""


class Keeper:
    """The work for one client."""

    def __init__(self) -> None:
        self.work = Path()
        self.token = uuid.uuid4().hex
        self.locked = False
        self.runner: subprocess.Popen[bytes] | None = None
        self._speaking = threading.Lock()

    def say(self, event: str, **values: Any) -> None:
        """Write one line; the end of the input shows that the client is gone."""
        with self._speaking, contextlib.suppress(OSError, ValueError):
            sys.stdout.write(json.dumps(dict(values, event=event)) + "\n")
            sys.stdout.flush()

    def obey(self, command: dict[str, Any]) -> bool:
        """Do a command and answer it; return False when it was the last."""
        do = command.pop("do")
        if do == "beat":
            return True
        try:
            _COMMANDS[do](self, **command)
        except OSError as error:
            text = str(error) if error.filename or not error.strerror else error.strerror
            self.say("failed", errno=error.errno, text=text, free_bytes=_free_bytes(self.work))
        return bool(do != "close")

    def open(self, work: str, owner: dict[str, Any], wait_s: float) -> None:
        """Make the private folders and take the lock; wait for it up to `wait_s`."""
        self.work = Path(work).expanduser().resolve()
        _require_closed(Path(work))
        self.work.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        _require_closed(Path(work))  # the umask may have left a new folder open
        _make_private(self.work, "store", "runs")
        deadline = time.monotonic() + wait_s
        holder = _take_lock(self.work, self.token, owner)
        while holder is not None and time.monotonic() < deadline:
            time.sleep(1.0)
            holder = _take_lock(self.work, self.token, owner)
        if holder is not None:
            self.say("locked", holder=holder)
            return
        self.locked = True
        self.say(
            "opened",
            work=str(self.work),
            pid=os.getpid(),
            free_bytes=_free_bytes(self.work),
            machine=platform.machine(),
            python=list(sys.version_info[:3]),
        )

    def try_imports(self, python: str, environment: dict[str, str], modules: list[str]) -> None:
        """Import the modules in the Python that will measure, and say their versions or what went wrong."""
        command = [_program(python), "-c", _IMPORT_TEST, *modules]
        done = subprocess.run(command, env=_variables(environment), capture_output=True, check=False)
        answer = done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
        if done.returncode != 0 or not answer:
            self.say("tried", code=done.returncode, stderr=_printable(done.stderr[-_TAIL_BYTES:]))
            return
        self.say("tried", **json.loads(answer[0]))

    def look(self, files: list[str]) -> None:
        """Say which files, named by their sha256, are there and whole, and how many bytes of the others are there."""
        kept, parts = [], {}
        for sha256 in files:
            whole, part = self._stored_path(sha256), self._stored_path(f"{sha256}.part")
            if whole.is_file() and _sha256(whole) == sha256:
                whole.touch()
                kept.append(sha256)
                continue
            with contextlib.suppress(FileNotFoundError):
                whole.unlink()
            if part.is_file():
                parts[sha256] = part.stat().st_size
        self.say("found", kept=kept, parts=parts, free_bytes=_free_bytes(self.work))

    def settle(self, files: list[str]) -> None:
        """Rename the parts that are whole; delete those that arrived damaged and say which."""
        damaged = []
        for sha256 in files:
            part = self._stored_path(f"{sha256}.part")
            if _sha256(part) == sha256:
                part.replace(self._stored_path(sha256))
            else:
                part.unlink()
                damaged.append(sha256)
        self.say("settled", damaged=damaged)

    def run(
        self, python: str, environment: dict[str, str], wheel: str, files: dict[str, str], request: dict[str, Any]
    ) -> None:
        """Place the bundle's files from the store and start the measuring; pass on its lines as they come."""
        folder = self._run_folder()
        for path, sha256 in files.items():
            _place(self._stored_path(sha256), folder / "bundle" / path)
        (folder / "tmp").mkdir(_PRIVATE)
        given = _variables(environment)
        paths = [str(self._stored_path(wheel)), given.get("PYTHONPATH", "")]
        given["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        given["TMPDIR"] = str(folder / "tmp")
        python = _program(python)
        whole = dict(request, folder=str(folder / "bundle"), result=str(folder / "result.json"), python=python)
        with (folder / "stderr.txt").open("wb") as stderr:
            self.runner = subprocess.Popen(
                [python, "-m", "edgedistill_deploy.remote.device_part"],
                cwd=folder,
                env=given,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        stdin = _pipe(self.runner.stdin)
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(whole).encode() + b"\n")
            stdin.flush()
        self.say("started", pid=self.runner.pid, folder=str(folder))
        threading.Thread(target=self._pass_on, args=(self.runner, folder), daemon=True).start()

    def _pass_on(self, runner: subprocess.Popen[bytes], folder: Path) -> None:
        for line in _pipe(runner.stdout):
            with contextlib.suppress(ValueError):
                self.say("said", line=json.loads(line.decode("utf-8", "replace")))
        code = runner.wait()
        result, values = folder / "result.json", {}
        if result.is_file():
            values = {"path": str(result), "bytes": result.stat().st_size, "sha256": _sha256(result)}
        stderr = (folder / "stderr.txt").read_bytes()
        self.say("ended", code=code, result=values, stderr=_printable(stderr[-_TAIL_BYTES:]))

    def free(self) -> None:
        """Say how many bytes are free."""
        self.say("free", free_bytes=_free_bytes(self.work))

    def close(self, keep: bool) -> None:
        """End the measuring and clean up: everything, or with `keep` only the lock."""
        self.leave(keep=keep, with_store=not keep)
        self.say("closed")

    def leave(self, keep: bool = False, with_store: bool = False) -> None:
        """Kill what runs, delete the run's folder and free the lock; delete the store only at the client's request."""
        if self.runner is not None:
            with contextlib.suppress(OSError):
                os.killpg(self.runner.pid, signal.SIGKILL)
            self.runner.wait()
        if not self.locked:
            return
        self.locked = False
        if not keep:
            shutil.rmtree(self.work / "runs", ignore_errors=True)
        if with_store:
            shutil.rmtree(self.work / "store", ignore_errors=True)
        else:
            _forget(self.work / "store")
        shutil.rmtree(self.work / "lock", ignore_errors=True)
        if with_store:
            with contextlib.suppress(OSError):
                (self.work / "lock.guard").unlink()
            with contextlib.suppress(OSError):  # others' files in it keep the folder
                self.work.rmdir()

    def _stored_path(self, name: str) -> Path:
        return self.work / "store" / name

    def _run_folder(self) -> Path:
        """Make the one run folder; delete those that a killed run or a kept one left."""
        runs = self.work / "runs"
        for left in runs.iterdir():
            shutil.rmtree(left, ignore_errors=True)
        folder = runs / (time.strftime("%Y%m%d-%H%M%S-") + self.token[:6])
        folder.mkdir(_PRIVATE)
        return folder


_COMMANDS: dict[str, Callable[..., None]] = {
    "open": Keeper.open,
    "try": Keeper.try_imports,
    "look": Keeper.look,
    "settle": Keeper.settle,
    "run": Keeper.run,
    "free": Keeper.free,
    "close": Keeper.close,
}


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # both are pipes
    return stream


def find_open_folder(work: Path) -> tuple[Path, str] | None:
    """Return the folder through which somebody else could replace what is sent here, and why; None where none can.

    That is the work folder, or one that leads to it, which belongs to neither this user nor root, or which others may
    write to. In a folder with the sticky bit, such as /tmp, nobody can replace what belongs to another.
    """
    given = work.expanduser().absolute()
    for path in dict.fromkeys((given.resolve(), *given.resolve().parents, *given.parents)):
        if not path.exists():
            continue
        state, is_work = path.stat(), path == given.resolve()
        if state.st_uid not in (os.getuid(), 0):
            return path, f"{path} belongs to another user"
        is_open = state.st_mode & 0o002 or (state.st_mode & 0o020 and not _is_own_group(state.st_gid))
        if is_open and (is_work or not state.st_mode & stat.S_ISVTX):
            return path, f"others may write to {path}"
    return None


def _is_own_group(group: int) -> bool:
    """Return whether a group is this user's private one, of the same name, as most systems make it."""
    import grp
    import pwd

    try:
        return group == os.getgid() and grp.getgrgid(group).gr_name == pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return False


def _require_closed(work: Path) -> None:
    """Raise OSError for a work folder that somebody else could change."""
    found = find_open_folder(work)
    if found is not None:
        path, why = found
        raise OSError(
            errno.EPERM,
            f"{why}, so they could change what is measured; close it with chmod go-w {shlex.quote(str(path))}, or "
            "choose another folder with work in devices.toml",
        )


def _make_private(work: Path, *names: str) -> None:
    """Make folders for this user only. Raises OSError for one that somebody else owns or may write to."""
    for name in names:
        path = work / name
        with contextlib.suppress(FileExistsError):
            path.mkdir(_PRIVATE)
        state = path.lstat()
        if state.st_uid != os.getuid() or state.st_mode & 0o170022 != 0o040000:
            raise OSError(1, f"{path} belongs to somebody else, or others may write to it; choose another work folder")


def _take_lock(work: Path, token: str, owner: dict[str, Any]) -> dict[str, Any] | None:
    """Make the lock folder, which only one process can; return the holder when somebody else has it.

    A lock whose process is gone from this machine is taken over. The guard stops two clients from doing so at once.
    """
    import fcntl

    with (work / "lock.guard").open("a") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        lock = work / "lock"
        try:
            lock.mkdir(_PRIVATE)
        except FileExistsError:
            holder = _holder(lock)
            if holder is None or _is_alive(holder):
                return holder or {}
            shutil.rmtree(lock, ignore_errors=True)
            lock.mkdir(_PRIVATE)
        here = {"pid": os.getpid(), "started": _start_time_of(os.getpid()), "boot": _boot(), "token": token}
        (lock / "owner.json").write_text(json.dumps(dict(owner, time=time.time(), device=socket.gethostname(), **here)))
    return None


def _holder(lock: Path) -> dict[str, Any] | None:
    """Return the owner of the lock; None while it is being written, a dead process (pid 0) when it never was."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads((lock / "owner.json").read_text())
        return found
    with contextlib.suppress(OSError):
        if time.time() - lock.stat().st_mtime < _LOCK_WITHOUT_OWNER_S:
            return None
    return {"pid": 0}


def _is_alive(holder: dict[str, Any]) -> bool:
    pid, boot = holder.get("pid"), holder.get("boot")
    if not isinstance(pid, int) or pid <= 0 or (boot and _boot() and boot != _boot()):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if _state(pid)[:1] == ["Z"]:
        return False
    then, now = holder.get("started"), _start_time_of(pid)
    return then is None or now is None or abs(now - then) < _STARTED_TICKS


def _start_time_of(pid: int) -> int | None:
    """Return the start of a process in ticks since boot; its number alone may belong to another process now."""
    state = _state(pid)
    return int(state[19]) if len(state) > 19 and state[19].isdigit() else None


def _state(pid: int) -> list[str]:
    """Return the fields of a process after its name; the first is Z when it is dead and its parent did not wait."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _forget(store: Path) -> None:
    """Delete files that were not used for a long time, so that a kept store does not grow without end."""
    with contextlib.suppress(OSError):
        for path in store.iterdir():
            if time.time() - path.stat().st_mtime > _UNUSED_S:
                path.unlink()


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # FAT and some network file systems have no links
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _free_bytes(folder: Path) -> int | None:
    try:
        state = os.statvfs(folder)
    except OSError:
        return None
    return state.f_bavail * state.f_frsize


def _variables(environment: dict[str, str]) -> dict[str, str]:
    return dict(os.environ, **dict(_QUIET, **environment))


def _program(python: str) -> str:
    """Return the path of a program as the login shell would find it."""
    path = os.path.expanduser(python)  # noqa: PTH111, a Path would lose the ./ of ./python
    return shutil.which(path) or path


def _printable(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n").strip()


def _read(commands: queue.Queue[dict[str, Any] | None]) -> None:
    for line in sys.stdin:
        commands.put(json.loads(line))
    commands.put(None)


def main() -> None:
    """Do commands until the last one, the end of the input, or silence."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_read, args=(commands,), daemon=True).start()
    keeper = Keeper()
    try:
        keeper.say("ready", python=list(sys.version_info[:3]))
        with contextlib.suppress(queue.Empty):
            command = commands.get(timeout=_SILENCE_S)
            while command is not None and keeper.obey(command):
                command = commands.get(timeout=_SILENCE_S)
    finally:
        keeper.leave()
    os._exit(0)  # the thread that reads may still wait for a line


if __name__ == "__main__":
    main()
