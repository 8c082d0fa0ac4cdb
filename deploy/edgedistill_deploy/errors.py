"""The errors EdgeDistill raises on purpose.

Every message says in one or two sentences what is wrong, what was given, what is allowed and what to do next. The
command line prints the message and ends with the exit code of the class. Any other exception is a defect of ours.
"""

import contextlib
import difflib
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


class EdgeDistillError(Exception):
    """An expected failure: the input or the machine is at fault, not the code."""

    exit_code = 1


class UsageError(EdgeDistillError):
    """A setting, flag or name is wrong; nothing was started."""

    exit_code = 2


class DataError(EdgeDistillError):
    """Images, labels or weights cannot be read, or do not fit the request."""


class BundleError(EdgeDistillError):
    """A bundle is damaged, incomplete, or not a bundle."""


class NotWrittenError(EdgeDistillError):
    """A file cannot be written: there is no room, no right to do it, or its folder is gone."""


class MissingDependencyError(EdgeDistillError):
    """An optional library is needed and is not installed."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(library, extra, purpose)  # unchanged, so that another process can build the error again

    def __str__(self) -> str:
        library, extra, purpose = self.args
        return f"{purpose} needs {library}, which is not installed: pip install 'edgedistill[{extra}]'."


@contextlib.contextmanager
def reading(path: Path, kind: type[EdgeDistillError] = DataError) -> Iterator[None]:
    """Turn an OSError of the block into `kind` with a message that names the path."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path} cannot be read: {error.strerror or error}.") from error


def quote_value(value: object) -> str:
    """Return a value as a message quotes it, in at most 60 characters."""
    text = reprlib.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest_names(given: str, known: Iterable[str]) -> str:
    """Return the end of an error message about a misspelt name: " Did you mean a, b?" with the closest known names.

    Case does not count. When nothing is close, it is " Known: a, b, c and 7 more." with at most ten names.
    """
    names = [str(name) for name in known]
    spelt = {name.casefold(): name for name in reversed(names)}
    if close := difflib.get_close_matches(given.casefold(), spelt):
        return f" Did you mean {', '.join(map(spelt.__getitem__, close))}?"
    return f" Known: {first_names(names, 10)}." if names else ""


def first_names(names: Sequence[object], most: int) -> str:
    """Return "a, b, c", or "a, b and 7 more" where there are more than `most`; it can stand before a full stop."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
