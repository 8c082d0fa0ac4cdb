"""A fresh Python process that measures, so that nothing left by another model or a training is measured with it.

The process (`_measuring_process`) reads one JSON request a line and answers each with JSON lines; see `lines`. It lives
until its input closes, so one opened model can run several blocks.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from typing import IO, TYPE_CHECKING, Any

from edgedistill_deploy.clock import MACHINE_CLOCK
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.lines import QUIET_S, Silence, describe_silence, read_error
from edgedistill_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from typing_extensions import Self

_SECONDS_TO_END = 5.0


class FreshProcess:
    """A context manager around the process; `started_ns` is the clock's time just before its start."""

    def __init__(self) -> None:
        self.started_ns = MACHINE_CLOCK.now_ns()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgedistill_deploy.profiling._measuring_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(),
        )
        self._silence: Silence | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def identity(self) -> int:
        """The number of the process."""
        return self._process.pid

    def ask(self, task: str, progress: Progress = silent, **arguments: Any) -> Any:
        """Send a task and return its result.

        Raises the task's own error, and EdgeDistillError when the process ended before the task was done.
        """
        stdin = _stream(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # a process that is gone is noticed where its answer is read
            stdin.write(json.dumps({"task": task, **arguments}).encode() + b"\n")
            stdin.flush()
        silence = Silence(lambda silent_s: progress(0, 0, describe_silence(silent_s, self._process.pid)))
        self._silence = silence
        try:
            while line := _stream(self._process.stdout).readline():
                silence.heard()
                answer = json.loads(line)
                if "result" in answer:
                    return answer["result"]
                if "error" in answer:
                    raise read_error(answer["error"])
                progress(*answer["progress"])
        finally:
            self._silence = None
        raise EdgeDistillError(
            "The process that measures ended before it was done, killed from outside or out of memory; free memory "
            "and run it again."
        )

    def _listen(self) -> None:
        """Tell from a thread, while `ask` waits, that nothing comes."""
        while not self._ended.wait(QUIET_S / 4):
            if (silence := self._silence) is not None:
                silence.look()

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._ended.set()
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
    """Return an environment to import from the same places as this process, and not from the current folder."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # both are pipes
    return stream
