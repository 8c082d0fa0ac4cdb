"""The one callback for progress, which all long work calls, and the named phases of work that has several."""

from collections.abc import Mapping
from typing import Protocol


class Progress(Protocol):
    """Called from time to time during the work, and once at its end."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Take how much of the work is done.

        Args:
            done: the amount, from 0 to `total`.
            total: the whole amount in the same unit, or 0 while it is not known.
            note: which part of the work this is, or what the amounts count; it can be empty.
        """


def silent(done: int, total: int, note: str = "") -> None:
    """Do nothing."""


def noted(progress: Progress, note: str) -> Progress:
    """Return a progress that passes amounts on to `progress`, with this note where they have none."""

    def report(done: int, total: int, note: str = note) -> None:
        progress(done, total, note)

    return report


class Phases:
    """Named phases of one piece of work, each with its share of the time; together they never go back.

    The amounts that reach the wrapped progress are thousandths of the whole. Only `finish` reports all of them, so that
    work in progress is never shown as done.
    """

    WHOLE = 1000

    def __init__(self, progress: Progress, shares: Mapping[str, float]) -> None:
        """Plan the phases; `shares` is {name: expected time, in any unit}, in order."""
        self._progress = progress
        self._names = tuple(shares)
        self._shares = tuple(shares.values())
        self._reached = 0

    def begin(self, name: str) -> Progress:
        """Say that a phase begins and that all before it are over; return the progress of its own amounts."""
        place = self._names.index(name)
        start, whole = sum(self._shares[:place]), sum(self._shares) or 1.0

        def report(done: int, total: int, note: str = "") -> None:
            part = min(1.0, done / total) if total > 0 else 0.0
            reached = int(self.WHOLE * (start + part * self._shares[place]) / whole)
            self._reached = min(max(self._reached, reached), self.WHOLE - 1)
            self._progress(self._reached, self.WHOLE, f"{name}: {note}" if note else name)

        report(0, 1)
        return report

    def finish(self) -> None:
        """Say that all is done."""
        self._reached = self.WHOLE
        self._progress(self.WHOLE, self.WHOLE, "")
