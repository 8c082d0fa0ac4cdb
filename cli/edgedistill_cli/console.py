"""What the user sees: messages and progress on stderr, results on stdout."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from edgedistill_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

# Outside a terminal, a progress line is printed at most this often.
PLAIN_INTERVAL_S = 10.0


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
            sys.stdout.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

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
            table.add_row(*(escape(cell) for cell in row))
        out = _open_rich(sys.stdout)
        # A pipe has no width; figures would be lost if they were cut to 80 columns there.
        if not out.is_terminal:
            out.width = 240
        out.print(table)

    @contextlib.contextmanager
    def progress(self, description: str) -> Iterator[Progress]:
        """Show one step of work: a bar on a terminal, elsewhere a plain line at most every ten seconds."""
        if self.quiet:
            yield silent
        elif _open_rich(sys.stderr).is_terminal:
            with _bar(description) as report:
                yield report
        else:
            yield _plain_lines(self, description)


def _open_rich(file: TextIO) -> "RichConsole":
    from rich.console import Console as RichConsole

    return RichConsole(file=file)


def _print_plain(file: TextIO, text: str) -> None:
    from rich.markup import escape

    _open_rich(file).print(escape(text), highlight=False, soft_wrap=True)


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
            shown.update(task, completed=done, total=total or None, note=escape(note))

        yield report


def _plain_lines(console: Console, description: str) -> Progress:
    started = spoken = time.monotonic()

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal spoken
        now = time.monotonic()
        is_message = bool(note) and total == 0
        if now - spoken < PLAIN_INTERVAL_S or (not is_message and (done == 0 or total == 0)):
            return
        spoken = now
        if is_message:
            console.say(f"{description}: {note}")
            return
        left = (now - started) * (total - done) / done
        console.say(f"{description}: {100 * done // total} %, about {left:.0f} s left{f', {note}' if note else ''}")

    return report
