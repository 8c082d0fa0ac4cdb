"""Files on this machine and, through fsspec, on servers, read by ranges of bytes and never whole.

A place is a path or a URL, as text. Nothing here stays open, so every process and thread may read at the same time.
"""

import contextlib
import importlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edgedistill_deploy.errors import DataError, EdgeDistillError, MissingDependencyError, UsageError, reading
from edgedistill_deploy.files.reaching import require_reachable

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_TRIES = 3
_PAUSE_S = 0.5
_CONNECT_S, _READ_S = 5.0, 60.0
# The libraries that fsspec wants for a scheme, and our extra that has them.
_LIBRARIES = {"http": ("aiohttp", "http"), "https": ("aiohttp", "http"), "s3": ("s3fs", "s3")}

T = TypeVar("T")


def is_url(place: str) -> bool:
    """Return whether a place is a URL such as "https://..." or "s3://..."."""
    return _URL.match(place) is not None


def require_server(place: str) -> None:
    """Raise DataError within seconds where the server of a web address does not answer."""
    if place.lower().startswith(("http://", "https://")):
        require_reachable(place, "The images", "copy them to this machine, and name them there")


def describe_place(place: str) -> tuple[int, str]:
    """Return the size in bytes, and a text that changes when the content does. Raises DataError."""
    if not is_url(place):
        with reading(Path(place)):
            found = Path(place).stat()
            return found.st_size, str(found.st_mtime_ns)
    info = _with_retries(place, lambda: _filesystem(place).info(place))
    size = info.get("size")
    if size is None:
        raise DataError(f"The server of {place} does not say how long the file is; copy it to this machine.")
    stamps = (info.get(key) for key in ("ETag", "etag", "mtime", "LastModified", "last_modified", "created"))
    return int(size), next((str(each) for each in stamps if each), "")


def read_range(place: str, start: int, size: int) -> bytes:
    """Return `size` bytes from `start` on. Raises DataError, also where the file ends before that."""
    if not is_url(place):
        with reading(Path(place)), Path(place).open("rb") as stream:
            stream.seek(start)
            content = stream.read(size)
    else:
        # fsspec asks for the bytes up to `end`, without it.
        content = _with_retries(place, lambda: _filesystem(place).cat_file(place, start=start, end=start + size))
    if len(content) > size:
        raise DataError(f"The server of {place} sends whole files only, and no parts; copy the file to this machine.")
    if len(content) < size:
        raise DataError(f"{place} ends at byte {start + len(content)}, before {start + size}; it is cut off.")
    return content


def find_places(pattern: str) -> list[str]:
    """Return the places that a pattern with * or ? fits, sorted. Raises DataError where a server cannot list."""
    if not is_url(pattern):
        path = Path(pattern)
        with reading(path):
            return sorted(map(str, Path(path.anchor).glob(str(path.relative_to(path.anchor)))))
    scheme = _scheme(pattern)
    if scheme.startswith("http"):
        raise UsageError(f"A web server does not list its files; write {pattern} with braces, such as {{000..146}}.")
    found = _with_retries(pattern, lambda: _filesystem(pattern).glob(pattern))
    return sorted(f"{scheme}://{str(each).lstrip('/') if scheme != 'memory' else each}" for each in found)


def open_filesystem(place: str) -> Any:
    """Return fsspec's file system for a URL. Raises MissingDependencyError, UsageError."""
    return _filesystem(place)


@contextlib.contextmanager
def explaining(place: str) -> Iterator[None]:
    """Turn whatever a file system of fsspec raises into a DataError that names the place."""
    try:
        yield
    except EdgeDistillError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{place} does not exist.") from error
    except Exception as error:  # each file system has errors of its own
        detail = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{place} cannot be read: {detail[:300]}.") from error


def _scheme(place: str) -> str:
    found = _URL.match(place)
    return found[1].lower() if found else ""


def _filesystem(place: str) -> Any:
    """Return the file system; fsspec keeps one for each process."""
    scheme = _scheme(place)
    if "::" in place:
        raise UsageError(f"{place} chains file systems with '::'; name the files themselves.")
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        extra = _LIBRARIES.get(scheme, ("", "http"))[1]
        raise MissingDependencyError("fsspec", extra, f"Reading {scheme}://") from error
    try:
        return fsspec.filesystem(scheme, **_options(scheme))
    except ImportError as error:
        library, extra = _LIBRARIES.get(scheme, ("", ""))
        if library:
            raise MissingDependencyError(library, extra, f"Reading {scheme}://") from error
        raise DataError(f"{place} needs a library that is not installed: {str(error).rstrip('.')}.") from error
    except ValueError as error:
        raise UsageError(
            f"{place} begins with {scheme}://, which fsspec does not know; use https:// or s3://."
        ) from error


def _options(scheme: str) -> dict[str, Any]:
    if not scheme.startswith("http"):
        return {}
    timeout = importlib.import_module("aiohttp").ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S)
    return {"client_kwargs": {"timeout": timeout}}


def _with_retries(place: str, ask: Callable[[], T]) -> T:
    """Ask again where a connection breaks; a file that is not there is not asked for again."""
    for attempt in range(1, _TRIES):
        try:
            return ask()
        except (EdgeDistillError, FileNotFoundError, PermissionError, NotImplementedError):
            break
        except Exception:  # noqa: BLE001  # each file system has errors of its own
            time.sleep(_PAUSE_S * attempt)
    with explaining(place):
        return ask()
