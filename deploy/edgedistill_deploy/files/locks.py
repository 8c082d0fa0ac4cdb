"""Locks between processes that nobody has to clean up: the system drops them when a process ends or is killed."""

import os
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.01

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class ProcessLock:
    """An exclusive lock on the file `path`. The file is made when it is missing, and stays after the release.

    Not reentrant, also within one process. A forked child keeps its parent's lock until both have ended.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock and return True; Optuna's journal expects this of a lock."""
        while not self.try_acquire():
            time.sleep(POLL_SECONDS)
        return True

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it; return whether it was taken."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, (BlockingIOError, PermissionError)):  # Windows raises PermissionError for a held lock
                return False
            raise
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Drop the lock, by closing the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_exception: object) -> None:
        self.release()
