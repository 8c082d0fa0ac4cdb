"""A Python process of its own that measures: what another model, or a training before, left in this one is not measured
with it.

The process (`_measuring_process`) takes one JSON request a line and answers each with JSON lines; see `lines`. It lives
until its input closes, so that one opened model can be asked for several blocks of runs.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from edgedistill_deploy.clock import MACHINE_CLOCK
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.lines import read_error
from edgedistill_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from typing_extensions import Self

_SECONDS_TO_END = 5.0


class FreshProcess:
    """A context manager around the process; `started_ns` is what the clock showed just before it was started."""

    def __init__(self) -> None:
        self.started_ns = MACHINE_CLOCK.now_ns()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgedistill_deploy.profiling._measuring_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )

    @property
    def identity(self) -> int:
        """The process's number."""
        return self._process.pid

    def ask(self, task: str, progress: Progress = silent, **arguments: Any) -> Any:
        """Have a task done and return its result.

        Raises what the task raised, by its class and words, and EdgeDistillError when the process ended before it was
        done.
        """
        self._send({"task": task, **arguments})
        while line := _stream(self._process.stdout).readline():
            answer = json.loads(line)
            if "result" in answer:
                return answer["result"]
            if "error" in answer:
                raise read_error(answer["error"])
            progress(*answer["progress"])
        raise EdgeDistillError(
            "The process that measures ended before it was done, killed from outside or out of memory; free memory "
            "and run it again."
        )

    def _send(self, request: Mapping[str, Any]) -> None:
        stream = _stream(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # a process that is gone is noticed where its answer is read
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            _stream(self._process.stdin).close()
        try:
            self._process.wait(timeout=_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _stream(self._process.stdout).close()


def _environment() -> dict[str, str]:
    """Let the process import what this one can, from where this one does, and nothing from the current folder."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # both were asked for as pipes
    return stream
