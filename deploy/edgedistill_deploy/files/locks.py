"""Locks between processes that nobody has to clean up: the system drops them when a process ends or is killed."""

import contextlib
import errno
import json
import os
import platform
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from edgedistill_deploy.errors import EdgeDistillError, NotWrittenError
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.names import printable

POLL_SECONDS = 0.01
LOCK_FILE = ".lock"  # of a folder

_MOST_BYTES = 4096  # of what a holder says about itself
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_OPENED = os.O_NONBLOCK | os.O_NOFOLLOW if sys.platform != "win32" else 0

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30  # the locked byte; other processes could not read what the holder says if it were there

    def _lock(descriptor: int, sharing: bool) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int, sharing: bool) -> None:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if sharing else fcntl.LOCK_EX) | fcntl.LOCK_NB)


class ProcessLock:
    """A lock on the file `path`. The file is made when it is missing, and stays after the release.

    Not reentrant, also within one process. A forked child lets go of its parent's lock, so the lock ends with the
    process that took it. `sharing` locks exclude the others, and not each other; Windows has none, there they do.
    """

    def __init__(self, path: Path, *, sharing: bool = False) -> None:
        self.path = path
        self._sharing = sharing
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock and return True; Optuna's journal expects this of a lock."""
        while not self.try_acquire():
            time.sleep(POLL_SECONDS)
        return True

    def try_acquire(self, command: str = "") -> bool:
        """Take the lock if nobody holds it; return whether it was taken. `command` is what `holder` says later.

        Raises OSError where the file cannot be opened, is no plain file, or its file system has no locks.
        """
        descriptor = _open(self.path, self._sharing)
        try:
            _lock(descriptor, self._sharing)
            if command:
                _write_holder(descriptor, command)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):  # Windows raises PermissionError for a held lock
                return False
            raise
        self._descriptor = descriptor
        _forget_in_children().add(self)
        return True

    def holder(self) -> str:
        """Say who took the lock last: the command, the process, its machine and the time."""
        try:
            with self.path.open("rb") as stream:
                said = parse_json(stream.read(_MOST_BYTES))
            text = "{command}, process {process} on {host}, since {since}".format(**said)
        except (OSError, ValueError, TypeError, LookupError):
            return "another process"
        return printable(text)

    def release(self) -> None:
        """Drop the lock, by closing the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exception: object) -> None:
        self.release()


@contextlib.contextmanager
def hold_folder(
    folder: Path, command: str, *, sharing: bool = False, note: Callable[[str], None] = lambda text: None
) -> Iterator[None]:
    """Keep other commands from working in the folder during the block.

    Args:
        folder: exists.
        command: how others are told who is at work.
        sharing: others that share may work at the same time: commands that measure, and add records.
        note: called with a sentence where the file system has no locks; the block runs then too.

    Raises:
        EdgeDistillError: another command is at work there; the message names it.
        NotWrittenError: nothing can be written there. A sharing command needs no lock there.
    """
    lock = ProcessLock(folder / LOCK_FILE, sharing=sharing)
    try:
        taken = lock.try_acquire(command)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            note(f"note: The file system of {folder} has no locks, so do not run two commands there at a time.")
        elif not sharing or error.errno not in _READ_ONLY:
            reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror or error
            raise NotWrittenError(f"{lock.path} cannot be locked: {reason}.") from error
        taken = True
    if not taken:
        raise _in_use(folder, lock)
    try:
        yield
    finally:
        lock.release()


def require_free(folder: Path, *, sharing: bool = False) -> None:
    """Raise EdgeDistillError while another command is at work in the folder; nothing is written, nothing is kept.

    `sharing` is as for `hold_folder`. The next moment may be different, so it only serves to say so early.
    """
    lock = ProcessLock(folder / LOCK_FILE, sharing=sharing)
    if not lock.path.is_file():
        return
    try:
        taken = lock.try_acquire()
    except OSError:  # no locks, or no right to take one: `hold_folder` says so
        return
    if not taken:
        raise _in_use(folder, lock)
    lock.release()


def _in_use(folder: Path, lock: ProcessLock) -> EdgeDistillError:
    return EdgeDistillError(
        f"{folder} is in use by {lock.holder()}. Wait until that ends, or stop it, or choose another folder."
    )


def _open(path: Path, sharing: bool) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _OPENED, 0o644)
    except OSError as error:
        if not sharing or error.errno not in _READ_ONLY or not path.exists():
            raise
        descriptor = os.open(path, os.O_RDONLY | _OPENED)  # of another user, who may be at work
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a plain file", str(path))
    return descriptor


def _write_holder(descriptor: int, command: str) -> None:
    said = {
        "command": command,
        "process": os.getpid(),
        "host": platform.node() or "this machine",
        "since": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"),
    }
    # A full disk, or a file of another user: the lock holds, and only its name is missing.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(said).encode())


@lru_cache(maxsize=1)
def _forget_in_children() -> "weakref.WeakSet[ProcessLock]":
    """Return the locks of this process, which a forked child releases at once; data loaders outlive a killed parent."""
    held: weakref.WeakSet[ProcessLock] = weakref.WeakSet()

    def release_all() -> None:
        for lock in held:
            lock.release()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=release_all)
    return held
