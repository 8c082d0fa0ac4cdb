"""How far a piece of work is: the one callback that everything long calls, and the one that tells nobody."""

from typing import Protocol


class Progress(Protocol):
    """Called now and then while work goes on, and once when it is done."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Take how much of the work is done.

        Args:
            done: the amount, from 0 to `total`.
            total: the whole amount, in the same unit; 0 where it is not known yet.
            note: which part of the work this is, or what the amounts count; empty where there is nothing to tell apart.
        """


def silent(done: int, total: int, note: str = "") -> None:
    """Tell nobody."""


def noted(progress: Progress, note: str) -> Progress:
    """Return a progress that passes amounts on to `progress`, with this note where they come without one."""

    def report(done: int, total: int, note: str = note) -> None:
        progress(done, total, note)

    return report
