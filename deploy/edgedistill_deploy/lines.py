"""How a measuring process answers the process that asked: JSON lines on its stdout.

They are any number of {"progress": [done, total, note]}, then {"result": ...} or {"error": {"kind", "arguments"}}. An
error arrives with its text, as the class of `errors` that was raised or the nearest base class there.
"""

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from edgedistill_deploy import errors
from edgedistill_deploy.clock import MACHINE_CLOCK
from edgedistill_deploy.errors import EdgeDistillError

QUIET_S = 60.0  # a process that measures says something every few seconds
_KINDS: dict[str, type[EdgeDistillError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EdgeDistillError)
}


class LineWriter:
    """The original stdout of this process, for its answers alone: what a library prints goes to stderr.

    Progress within one step is sent at most every `progress_every_s` seconds; each new step is sent at once.
    """

    def __init__(self, progress_every_s: float = 0.0) -> None:
        self._out: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._writing = threading.Lock()
        self._every_ns = progress_every_s * 1e9
        self._told_ns: int | None = None
        self._step = ""

    def send(self, **line: Any) -> None:
        """Write one line, from any thread."""
        with self._writing:
            self._out.write(json.dumps(line, allow_nan=False) + "\n")
            self._out.flush()

    def send_error(self, error: EdgeDistillError) -> None:
        """Write the line of an error, from which `read_error` builds the error again."""
        kind = next(each.__name__ for each in type(error).__mro__ if each.__name__ in _KINDS)
        self.send(error={"kind": kind, "arguments": list(error.args)})

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Write a line of progress when it is due; see `progress.Progress`."""
        now = MACHINE_CLOCK.now_ns()
        if note != self._step or self._told_ns is None or now - self._told_ns >= self._every_ns:
            self._step, self._told_ns = note, now
            self.send(progress=[done, total, note])


class Silence:
    """Tells how long nothing has come from a process: after `QUIET_S` seconds, then each time that this has doubled.

    `look` must be called from time to time; `tell` gets the seconds.
    """

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell
        self.heard()

    def heard(self) -> None:
        """Note that something has come."""
        self._since_ns, self._due_s = MACHINE_CLOCK.now_ns(), QUIET_S

    def look(self) -> None:
        """Tell the silence when it is due."""
        silent_s = (MACHINE_CLOCK.now_ns() - self._since_ns) / 1e9
        if silent_s >= self._due_s:
            self._due_s = 2 * silent_s
            self._tell(silent_s)


def describe_silence(silent_s: float, pid: int, where: str = "") -> str:
    """Return the sentence on a process that says nothing."""
    return (
        f"nothing has come from process {pid}{where} for {silent_s:.0f} s; it is stopped, swapping, or in one long "
        f"step. See: ps -o stat,time,args -p {pid}. Go on: kill -CONT {pid}. Give up: Ctrl-C here"
    )


def read_error(told: Mapping[str, Any]) -> EdgeDistillError:
    """Return the error in a line; one of a strange shape becomes an EdgeDistillError with what it tells."""
    arguments = told.get("arguments")
    values = arguments if isinstance(arguments, list) else [arguments]
    try:
        error = _KINDS.get(str(told.get("kind")), EdgeDistillError)(*values)
        str(error)
    except (TypeError, ValueError):
        return EdgeDistillError(", ".join(map(str, values)))
    return error
