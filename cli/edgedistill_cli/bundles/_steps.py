"""Progress of work in several steps, a bar for each."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgedistill_cli.console import Console
from edgedistill_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from typing_extensions import Self


class Steps:
    """Shows progress with notes such as STEP or STEP: WHAT; `verb` stands before the step's name."""

    def __init__(self, console: Console, verb: str) -> None:
        self._console = console
        self._verb = verb
        self._step: str | None = None
        self._stack = ExitStack()
        self._report: Progress = silent

    def tell(self, done: int, total: int, note: str = "") -> None:
        """Show the progress of the step that the note names."""
        step, _, what = note.partition(": ")
        if step != self._step:
            self._stack.close()
            self._step = step
            self._report = self._stack.enter_context(self._console.progress(f"{self._verb} {step}"))
        self._report(done, total, what)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
