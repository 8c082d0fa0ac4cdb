"""The one callback for progress, which all long work calls."""

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
