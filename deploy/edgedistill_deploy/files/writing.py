"""Files that are written whole or not at all, inside the folder that they belong to, and their hashes.

`inside` is the run folder or bundle that a file belongs to. With it, no symbolic link leads the writing out of that
folder, and a folder that was deleted or unmounted is not made anew.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from edgedistill_deploy.errors import BundleError, EdgeDistillError, NotWrittenError
from edgedistill_deploy.files.names import replace_surrogates

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})  # codes of an OSError
_PROBE = bytes(1 << 16)


@contextlib.contextmanager
def write_whole(path: Path, *, inside: Path | None = None, size: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` after the block, or delete it when the block raises.

    The data reaches the disk before the name changes, so a crash leaves the whole old file or the whole new one.

    Args:
        path: of the file; a link of this name is replaced, not followed.
        inside: the folder that the file belongs to, and that must exist; None makes all folders above the file.
        size: bytes that the file will have, if they are known.

    Raises:
        BundleError: a symbolic link leads out of `inside`.
        NotWrittenError: there is no room, no right to write, or `inside` is gone. Also where the block raises anything
            else because the disk is full.
    """
    _make_folders(path, inside)
    with naming_no_room(path, size), _refusing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
    temporary = Path(name)
    try:
        with naming_no_room(path, size):
            with _probing(temporary):
                yield temporary
            with _refusing(path):
                _publish(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the folder is gone or read-only
            temporary.unlink()


@contextlib.contextmanager
def naming_no_room(path: Path, size: int = 0) -> Iterator[None]:
    """Turn the system's "no room" into a NotWrittenError that says where, how much is needed, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        least = _present_size(path)
        needed = f"It needs {_size(size)}. " if size else f"It needs at least {_size(least)}. " if least else ""
        raise NotWrittenError(
            f"{path} cannot be written: {os.strerror(error.errno)}. {needed}Make room in {path.parent}, or choose a "
            "folder on another disk; then run the same command again. What was finished is kept."
        ) from error


@contextlib.contextmanager
def write_new(path: Path) -> Iterator[IO[bytes]]:
    """Yield a stream into a file that is made now; it is deleted again when the block raises.

    Raises FileExistsError where anything has this name, even a link that leads nowhere, and NotWrittenError for no
    room and no right to write.
    """
    with naming_no_room(path):
        try:
            stream = path.open("xb")
        except FileExistsError:
            raise
        except OSError:
            with _refusing(path):
                raise
        try:
            with stream, _refusing(path):
                yield stream
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()
            raise


def write_bytes(path: Path, content: bytes, *, inside: Path | None = None) -> None:
    """Write bytes whole or not at all; see `write_whole`."""
    with write_whole(path, inside=inside, size=len(content)) as temporary, _refusing(path):
        temporary.write_bytes(content)


def write_text(path: Path, text: str, *, inside: Path | None = None) -> None:
    """Write UTF-8 text whole or not at all; see `write_whole`."""
    write_bytes(path, replace_surrogates(text).encode(), inside=inside)


def write_json(path: Path, record: Any, *, inside: Path | None = None) -> None:
    """Write a JSON document whole or not at all. Raises ValueError for NaN and infinities, which JSON lacks."""
    write_text(path, json_line(record, indent=2), inside=inside)


def json_line(record: Any, indent: int | None = None) -> str:
    """Return a JSON document that can be written as UTF-8. Raises ValueError for NaN and infinities."""
    text = json.dumps(record, indent=indent, ensure_ascii=False, allow_nan=False)
    return replace_surrogates(text, mark="\\\\") + "\n"


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk of `path`, to prepare what is then renamed to it; it is deleted afterwards.

    Raises NotWrittenError for no room and no right to write.
    """
    with naming_no_room(path), _refusing(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        with naming_no_room(path):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are missing. Raises NotWrittenError."""
    with naming_no_room(folder), _refusing(folder):
        folder.mkdir(parents=True, exist_ok=True)


def require_folder(folder: Path) -> None:
    """Raise NotWrittenError when the folder of a run is gone; made anew, it would hide what is to be found there."""
    if not folder.is_dir():
        raise NotWrittenError(
            f"The folder {folder} is gone: it was deleted, renamed or unmounted. Bring it back, and run the same "
            "command again."
        )


def require_inside(path: Path, folder: Path) -> None:
    """Raise BundleError when following links leads out of the folder."""
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise BundleError(f"{path} leads out of the bundle; it is refused.")


def refuse_links_out(folder: Path, names: Iterable[str]) -> None:
    """Raise BundleError when one of these files and folders, or anything below it, is a link out of the folder."""
    for path in (folder / name for name in names):
        require_inside(path, folder)
        for parent, folders, files in os.walk(path):
            for each in (Path(parent, name) for name in (*folders, *files)):
                if each.is_symlink():
                    require_inside(each, folder)


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _make_folders(path: Path, inside: Path | None) -> None:
    if inside is not None:
        require_folder(inside)
        require_inside(path, inside)
    make_folder(path.parent)


def _publish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o644)
    temporary.replace(path)


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a NotWrittenError, but for a lack of room, which `naming_no_room` explains."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise
        if error.errno == errno.ENOENT:
            require_folder(path.parent)
        raise NotWrittenError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextlib.contextmanager
def _probing(temporary: Path) -> Iterator[None]:
    """Find out whether any error of the block comes from a full disk; libraries raise errors of their own then."""
    try:
        yield
    except (OSError, EdgeDistillError):
        raise
    except Exception as error:
        require_folder(temporary.parent)
        if (code := _code_in(str(error)) or _try_more(temporary)) in NO_ROOM:
            raise OSError(code, os.strerror(code)) from error
        raise


def _code_in(message: str) -> int:
    """Return the system's code for "no room" whose text a library's message quotes; 0 for none."""
    return next((code for code in NO_ROOM if os.strerror(code) in message), 0)


def _try_more(path: Path) -> int:
    """Append some bytes; return 0, or the system's code of what it refuses."""
    try:
        with path.open("ab") as stream:
            stream.write(_PROBE)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.errno or 0
    return 0


def _present_size(path: Path) -> int:
    """Return the size of the largest file of this name, finished or not."""
    sizes = [each.stat().st_size for each in (path, *path.parent.glob(f".{path.name}.*")) if each.is_file()]
    return max(sizes, default=0)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{-(-count // 1000)} kB"
