"""The errors EdgeDistill raises on purpose.

Every message says what is wrong, what was given, what is allowed and what to do next, in one sentence or two. The
command line turns them into that sentence and the exit code of the class; anything else that is raised is a defect of
ours.
"""

import difflib
import reprlib
from collections.abc import Iterable


class EdgeDistillError(Exception):
    """An expected failure: the input or the machine, not the code, is at fault."""

    exit_code = 1


class UsageError(EdgeDistillError):
    """A setting, flag or name is wrong; nothing was started."""

    exit_code = 2


class DataError(EdgeDistillError):
    """Images, labels or weights cannot be read or do not fit what was asked."""


class BundleError(EdgeDistillError):
    """A bundle is damaged, incomplete, or not a bundle."""


class MissingDependencyError(EdgeDistillError):
    """A library that is optional, and not installed, is needed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(library, extra, purpose)  # as they are, so that the error can be made again in another process

    def __str__(self) -> str:
        library, extra, purpose = self.args
        return f"{purpose} needs {library}, which is not installed: pip install 'edgedistill[{extra}]'."


def quote_value(value: object) -> str:
    """Return a value as a message quotes it: at most 60 characters, however much was given."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest_names(given: str, known: Iterable[str], count: int = 3) -> str:
    """Say which known names are closest to a misspelt one, for the end of an error message.

    Returns " Did you mean a, b?" or, when nothing is close, " Known: a, b, c, ..." (at most ten names).
    """
    names = [str(name) for name in known]
    close = difflib.get_close_matches(given, names, n=count, cutoff=0.6)
    if close:
        return f" Did you mean {', '.join(close)}?"
    listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f" Known: {listed}." if names else ""
