"""A folder in use names who uses it, and is free as soon as that process has ended, however it ended."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgedistill_deploy.errors import EdgeDistillError, NotWrittenError
from edgedistill_deploy.files.locks import ProcessLock, hold_folder

fcntl = pytest.importorskip("fcntl", reason="Windows locks otherwise")

HOLD = """
import os, sys, time
from pathlib import Path
from edgedistill_deploy.files.locks import hold_folder
with hold_folder(Path(sys.argv[1]), "edgedistill build"):
    child = os.fork() if sys.argv[2] == "forking" else 1
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def start_holder(folder: Path, how: str) -> tuple["subprocess.Popen[str]", int]:
    """Start a process that holds the folder; return it and its child's process id."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def is_refused(folder: Path, *, sharing: bool = False) -> str:
    """Return why the folder cannot be held, or ""."""
    try:
        with hold_folder(folder, "edgedistill validate", sharing=sharing):
            return ""
    except EdgeDistillError as error:
        return str(error)


def test_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    process, _ = start_holder(tmp_path, "alone")
    try:
        refused = is_refused(tmp_path)
        assert refused.startswith(f"{tmp_path} is in use by edgedistill build, process {process.pid} on ")
        assert refused.endswith(". Wait until that ends, or stop it, or choose another folder.")
        assert is_refused(tmp_path, sharing=True).startswith(f"{tmp_path} is in use by edgedistill build, process ")
    finally:
        kill(process)
    assert is_refused(tmp_path) == ""


def test_a_child_that_outlives_its_killed_parent_holds_nothing(tmp_path: Path) -> None:
    process, child = start_holder(tmp_path, "forking")
    try:
        assert "is in use" in is_refused(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 60  # on a busy machine the child may not have run at all so far
        while is_refused(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(child, 0)  # it is alive
        assert is_refused(tmp_path) == ""
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_child_that_ends_takes_no_lock_from_its_parent(tmp_path: Path) -> None:
    with hold_folder(tmp_path, "edgedistill build"):
        subprocess.run([sys.executable, "-c", "import os; os._exit(0)"], check=True)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert "is in use" in is_refused(tmp_path)
    assert is_refused(tmp_path) == ""


def test_those_who_share_keep_out_only_those_who_do_not(tmp_path: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(hold_folder(tmp_path, "edgedistill profile", sharing=True))
        assert is_refused(tmp_path, sharing=True) == ""
        assert "is in use by edgedistill" in is_refused(tmp_path)
    assert is_refused(tmp_path) == ""


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b'{"command": "x"}', b'{"command": 1, ' * 5000])
def test_a_lock_file_of_any_content_is_read_without_trust(tmp_path: Path, content: bytes) -> None:
    lock = ProcessLock(tmp_path / ".lock")
    with lock:
        lock.path.write_bytes(content)
        assert is_refused(tmp_path).startswith(f"{tmp_path} is in use by another process. Wait")
        said = {"command": "\x1b[2J", "process": "1\n2", "host": "h\u202e", "since": "now"}
        lock.path.write_text(json.dumps(said), encoding="utf-8")
        assert r"in use by \x1b[2J, process 1\n2 on h\u202e, since now." in is_refused(tmp_path)


@pytest.mark.parametrize("sharing", [False, True])
def test_a_lock_file_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path, sharing: bool) -> None:
    (tmp_path / "theirs").write_text("theirs", encoding="utf-8")
    (tmp_path / ".lock").symlink_to("theirs")
    with pytest.raises(NotWrittenError, match=r"\.lock cannot be locked: it is a symbolic link"):
        hold_folder(tmp_path, "edgedistill build", sharing=sharing).__enter__()
    assert (tmp_path / "theirs").read_text(encoding="utf-8") == "theirs"
    (tmp_path / ".lock").unlink()
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(NotWrittenError, match=r"\.lock cannot be locked: it is not a plain file"):
        hold_folder(tmp_path, "edgedistill build", sharing=sharing).__enter__()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_gives_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)  # no such file system can be mounted for a test
    notes: list[str] = []
    with hold_folder(tmp_path, "edgedistill build", note=notes.append):
        assert notes == [
            f"note: The file system of {tmp_path} has no locks, so do not run two commands there at a time."
        ]
