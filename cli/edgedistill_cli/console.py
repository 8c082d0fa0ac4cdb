"""What the user sees: messages and progress on stderr, results on stdout."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from edgedistill_deploy.progress import Progress, silent

# Away from a terminal, a step says where it is at most this often.
PLAIN_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """Where output goes. `as_json`: stdout carries one JSON document and nothing else; `quiet`: stderr only errors."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False

    def say(self, text: str) -> None:
        """Write a message to stderr."""
        if not self.quiet:
            _stderr().print(escape(text), highlight=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """Write a message to stderr that only `--verbose` shows."""
        if self.verbose:
            self.say(text)

    def result(self, text: str) -> None:
        """Write a line of the result to stdout."""
        if not self.as_json:
            _stdout().print(escape(text), highlight=False, soft_wrap=True)

    def emit(self, record: Any) -> None:
        """Write the JSON document to stdout, where it was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write a table to stdout; the first column is left-aligned, the others right."""
        if self.as_json:
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for position, column in enumerate(columns):
            table.add_column(column, justify="left" if position == 0 else "right", no_wrap=True)
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        out = _stdout()
        # A pipe has no width to fit; cutting figures to 80 columns there would lose them.
        if not out.is_terminal:
            out.width = 240
        out.print(table)

    @contextlib.contextmanager
    def progress(self, description: str) -> Iterator[Progress]:
        """Show one step of work: yields a callback of (done, total, note).

        On a terminal a bar with the remaining time; elsewhere a plain line at most every ten seconds.
        """
        if self.quiet:
            yield silent
        elif _stderr().is_terminal:
            with _bar(description) as report:
                yield report
        else:
            yield _plain_lines(self, description)


def _stdout() -> RichConsole:
    return RichConsole(file=sys.stdout)


def _stderr() -> RichConsole:
    return RichConsole(file=sys.stderr)


@contextlib.contextmanager
def _bar(description: str) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bar(*columns, console=_stderr()) as progress:
        task = progress.add_task(escape(description), total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=escape(note))

        yield report


def _plain_lines(console: Console, description: str) -> Progress:
    started = spoken = time.monotonic()

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken < PLAIN_INTERVAL_S or done == 0:
            return
        spoken = now
        left = (now - started) * (total - done) / done
        console.say(
            f"{description}: {100 * done // total} %, about {left:.0f} s left{f', {note}' if note else ''}"
        )

    return report
