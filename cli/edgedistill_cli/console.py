"""What the user sees: messages and progress on stderr, results on stdout."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import json_line
from edgedistill_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

# Outside a terminal, a progress line is printed at most this often.
PLAIN_INTERVAL_S = 10.0


class PlainLines:
    """Progress as lines, of which at most one is written in ten seconds.

    A line has the share that is done, what is being done, and the time left where the work's own speed tells it. The
    share never falls. Where nothing is left to count, or nothing is counted yet, no time is claimed.
    """

    def __init__(
        self, say: Callable[[str], None], description: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock, which gives seconds."""
        self._say, self._description, self._clock = say, description, clock
        self._started = self._spoken = clock()
        self._percent = 0

    def report(self, done: int, total: int, note: str = "") -> None:
        """Be the progress: write a line when one is due."""
        now = self._clock()
        if now - self._spoken < PLAIN_INTERVAL_S or not (note or total):
            return
        self._spoken = now
        parts = [*self._share(done, total), *([note] if note else []), *self._left(done, total, now)]
        self._say(f"{self._description}: {', '.join(parts)}")

    def _share(self, done: int, total: int) -> list[str]:
        if total <= 0:
            return []
        self._percent = max(self._percent, min(100, 100 * done // total))
        return [f"{self._percent} %"]

    def _left(self, done: int, total: int, now: float) -> list[str]:
        if not 0 < done < total:
            return []
        return [f"about {(now - self._started) * (total - done) / done:.0f} s left"]


@dataclass(slots=True, kw_only=True)
class Failures:
    """How the caller of the command shows an expected failure: as one sentence, or with `debug` as a traceback."""

    debug: bool = False


def _note_debug(context: typer.Context, wanted: bool) -> bool:
    context.ensure_object(Failures).debug = wanted
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Where output goes. The fields are the flags that all commands share; `Failures` reads `debug`."""

    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No messages and no progress.")] = False
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More messages.")] = False
    debug: Annotated[
        bool, typer.Option("--debug", callback=_note_debug, help="Show the traceback of an expected failure.")
    ] = False

    def say(self, text: str) -> None:
        """Write a message to stderr."""
        if not self.quiet:
            _print_plain(sys.stderr, text)

    def warn(self, text: str) -> None:
        """Write a message to stderr that also `--quiet` shows: something was lost."""
        _print_plain(sys.stderr, text)

    def detail(self, text: str) -> None:
        """Write a message to stderr that only `--verbose` shows."""
        if self.verbose:
            self.say(text)

    def result(self, text: str) -> None:
        """Write a line of the result to stdout."""
        if not self.as_json:
            _print_plain(sys.stdout, text)

    def emit(self, record: Any) -> None:
        """Write the JSON document to stdout, if --json asks for it."""
        if self.as_json:
            sys.stdout.write(json_line(record))

    def line(self, record: Any) -> None:
        """Write one line of JSON to stdout, at once."""
        sys.stdout.write(json_line(record))
        sys.stdout.flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to stdout; the first column is left-aligned, the others right."""
        if self.as_json:
            return
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=title, title_justify="left", title_style="bold")
        for position, column in enumerate(columns):
            table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        out = _open_rich(sys.stdout)
        # A pipe has no width; figures would be lost if they were cut to 80 columns there.
        if not out.is_terminal:
            out.width = 240
        out.print(table)

    @contextlib.contextmanager
    def progress(self, description: str) -> Iterator[Progress]:
        """Show one step of work: a bar on a terminal, elsewhere plain lines, at most one in ten seconds."""
        if self.quiet:
            yield silent
        elif _open_rich(sys.stderr).is_terminal:
            with _bar(description) as report:
                yield report
        else:
            yield PlainLines(self.say, description).report


def _open_rich(file: TextIO) -> "RichConsole":
    from rich.console import Console as RichConsole

    return RichConsole(file=file)


def _print_plain(file: TextIO, text: str) -> None:
    from rich.markup import escape

    _open_rich(file).print(escape(printable(text, keep="\n\t")), highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _bar(description: str) -> Iterator[Progress]:
    from rich import progress as bars
    from rich.markup import escape

    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(bar_width=24),
        bars.TextColumn("{task.percentage:>3.0f}%"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left"),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
    )
    with bars.Progress(*columns, console=_open_rich(sys.stderr)) as shown:
        task = shown.add_task(escape(description), total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            shown.update(task, completed=done, total=total or None, note=escape(printable(note)))

        yield report
