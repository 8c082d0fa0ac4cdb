"""Doing jobs in this process or in several. Each process loads what it needs once, for all its jobs."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from edgedistill.comparison.jobs import Job
from edgedistill.comparison.results import Record
from edgedistill_deploy.errors import EdgeDistillError

# The shortest time between two reports of how far a job is.
REPORT_INTERVAL_S = 1.0
Shares = Callable[[str, float], None]


class Crew(Protocol):
    """One process or several that do the jobs."""

    def free(self) -> int:
        """Return how many more jobs can be given out now."""

    def give(self, job: Job) -> None:
        """Start a job."""

    def results(self, shares: Shares) -> list[Record]:
        """Wait until at least one job is done; `shares` is called with (key, share done) of jobs that are not."""


@contextlib.contextmanager
def open_crew(folder: Path, *, jobs: int, threads: int) -> Iterator[Crew]:
    """Open a crew of `jobs` processes with `threads` threads each; one process is this one."""
    if jobs == 1:
        from edgedistill.comparison.workspace import open_workspace

        with open_workspace(folder, threads) as workspace:
            yield _Alone(workspace)
    else:
        with contextlib.closing(_Processes(folder, jobs, threads)) as processes:
            yield processes


class _Alone:
    def __init__(self, workspace: Any) -> None:
        self._workspace = workspace
        self._job: Job | None = None

    def free(self) -> int:
        return 1 if self._job is None else 0

    def give(self, job: Job) -> None:
        self._job = job

    def results(self, shares: Shares) -> list[Record]:
        job, self._job = self._job, None
        return [] if job is None else [self._workspace.do(job, lambda share: shares(job.key, share))]


@dataclass(slots=True)
class _Member:
    process: Any
    connection: Connection
    job: Job | None = None


class _Processes:
    def __init__(self, folder: Path, jobs: int, threads: int) -> None:
        # Forking a process that has used torch's threads can hang.
        self._context = multiprocessing.get_context("spawn")
        self._arguments = (folder, threads)
        self._begun = False
        self._members = [self._start() for _ in range(jobs)]

    def free(self) -> int:
        return sum(member.job is None for member in self._members)

    def give(self, job: Job) -> None:
        idle = next(member for member in self._members if member.job is None)
        idle.job = job
        # When the member has died, `results` finds it out.
        with contextlib.suppress(OSError):
            idle.connection.send(job)

    def results(self, shares: Shares) -> list[Record]:
        records: list[Record] = []
        while not records and any(member.job for member in self._members):
            busy = {member.connection: member for member in self._members if member.job}
            for ready in wait(list(busy)):
                record = self._hear(busy[ready], shares)  # type: ignore[index]  # wait is typed for sockets too
                records.extend([record] if record else [])
        return records

    def close(self) -> None:
        for member in self._members:
            member.process.terminate()
            member.process.join()
            member.connection.close()

    def _start(self) -> _Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, *self._arguments))
        process.start()
        theirs.close()
        return _Member(process=process, connection=ours)

    def _hear(self, member: _Member, shares: Shares) -> Record | None:
        job = member.job
        assert job is not None
        try:
            message = member.connection.recv()
        except (EOFError, OSError):
            return self._replace(member, job)
        self._begun = True
        if message is None:
            return None
        if isinstance(message, float):
            shares(job.key, message)
            return None
        member.job = None
        record: Record = message
        return record

    def _replace(self, member: _Member, job: Job) -> Record:
        """Start another process in place of one that died; the system kills the largest when memory runs out."""
        member.process.join()
        code = member.process.exitcode
        if not self._begun:
            raise EdgeDistillError(
                f"A process that should do the runs ended with code {code} before it began; in a script, call "
                'run_comparison below `if __name__ == "__main__":`, or use jobs=1.'
            )
        self._members[self._members.index(member)] = self._start()
        return {
            "key": job.key,
            "kind": job.kind,
            "task": job.task.name,
            "method": job.method,
            "error": f"the process ended with code {code}; memory may have run out, so try fewer jobs at a time",
        }


def _work(connection: Connection, folder: Path, threads: int) -> None:
    """Do each job that arrives until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Libraries read this when they are loaded, which the next import does.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from edgedistill.comparison.workspace import open_workspace

    with open_workspace(folder, threads) as workspace:
        connection.send(None)
        while True:
            try:
                job = connection.recv()
            except EOFError:
                return
            connection.send(workspace.do(job, _occasional(connection.send)))


def _end_with_parent() -> None:
    """End this process when its parent is gone, even in the middle of a job."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _occasional(send: Callable[[float], None]) -> Callable[[float], None]:
    last = time.monotonic()

    def report(share: float) -> None:
        nonlocal last
        if time.monotonic() - last >= REPORT_INTERVAL_S:
            last = time.monotonic()
            send(share)

    return report
