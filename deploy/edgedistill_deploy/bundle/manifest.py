"""The manifest of a bundle: checked in full after reading, and written whole by one writer at a time."""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import ModuleType
from typing import Any

from edgedistill_deploy.errors import BundleError, quote_value, reading
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.names import is_plain_text
from edgedistill_deploy.files.writing import require_inside, write_json
from edgedistill_deploy.images.preprocess import Preprocess

try:
    import fcntl as _fcntl
except ImportError:  # Windows: there, writers in other processes do not wait
    fcntl: ModuleType | None = None
else:
    fcntl = _fcntl

SCHEMA = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 16 << 20

_OBJECTS = ("subtask", "preprocess", "teacher", "student", "provenance", "files", "stages", "choices")
_MOST_FILES = 1000
_LARGEST_FILE = 16 << 30  # bytes; all are hashed, and no model for an edge device has more
_LONGEST_PATH, _LONGEST_NAME = 1000, 255
_HEX = frozenset("0123456789abcdef")
_one_writer = threading.Lock()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the checked manifest of the bundle in `folder`. Raises BundleError saying what is wrong."""
    path = folder / MANIFEST
    with reading(path, BundleError):
        text = _read_bounded(path)
    try:
        record = parse_json(text)
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON: {' '.join(str(error).split())}.") from error
    check_manifest(record, path)
    return dict(record)


def write_manifest(folder: Path, record: Mapping[str, Any]) -> None:
    """Check the manifest and write it in place of the file."""
    check_manifest(record, folder / MANIFEST)
    write_json(folder / MANIFEST, record, inside=folder)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other threads, and by a lock on the folder other processes, from changing the manifest."""
    with _one_writer, contextlib.ExitStack() as stack:
        if fcntl is not None:
            with reading(folder, BundleError):
                descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            # Some network file systems have no locks; there the file is still replaced whole.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def check_manifest(record: Any, path: Path) -> None:
    """Raise BundleError for anything but a well-formed manifest of this schema."""
    if not isinstance(record, Mapping) or record.get("kind") != "bundle":
        raise BundleError(f'{path} is not the manifest of a bundle: it has no kind "bundle".')
    _check_schema(record.get("schema"), path)
    complete = {"choices": {}, **record}  # older bundles have no choices
    for name in _OBJECTS:
        if not isinstance(complete.get(name), Mapping):
            raise BundleError(f"{path} is damaged: {name} must be a JSON object.")
    _check_subtask(record["subtask"], path)
    if len(record["files"]) > _MOST_FILES:
        raise BundleError(f"{path} lists {len(record['files'])} files; a bundle has at most {_MOST_FILES}.")
    Preprocess.from_json(record["preprocess"])
    for role, entry in record["files"].items():
        _check_file(role[:60], entry, path)


def _read_bounded(path: Path) -> bytes:
    if not path.is_file():
        raise BundleError(
            f"{path.parent} is not a bundle: it has no {MANIFEST}; give a folder that `edgedistill build` or "
            "`edgedistill pack` wrote."
        )
    require_inside(path, path.parent)
    with path.open("rb") as stream:
        text = stream.read(MAX_MANIFEST_BYTES + 1)
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path} is larger than the {MAX_MANIFEST_BYTES} bytes a manifest may have.")
    return text


def _check_schema(schema: Any, path: Path) -> None:
    if type(schema) is not int or schema < 1:
        raise BundleError(f"{path} is damaged: schema is {quote_value(schema)}; it must be a whole number.")
    if schema > SCHEMA:
        raise BundleError(
            f"{path} has schema {schema}, written by a newer EdgeDistill; this one reads up to schema {SCHEMA}. "
            "Upgrade it: pip install --upgrade edgedistill."
        )


def _check_subtask(subtask: Mapping[str, Any], path: Path) -> None:
    names: Any = subtask.get("class_names")
    indices: Any = subtask.get("class_indices")
    if not is_plain_text(subtask.get("name")):
        raise BundleError(f"{path} is damaged: subtask.name must be a string without control characters.")
    if not _is_list_of(names, str) or not names or len(set(names)) < len(names):
        raise BundleError(f"{path} is damaged: subtask.class_names must list different names, at least one.")
    if not all(map(is_plain_text, names)):
        raise BundleError(f"{path} is damaged: subtask.class_names must not hold control characters.")
    if "class_members" in subtask:
        _check_members(subtask, len(names), path)
    elif not _is_list_of(indices, int) or len(indices) != len(names) or min(indices) < 0:
        raise BundleError(f"{path} is damaged: subtask.class_indices must list one index for each class name.")


def _check_members(subtask: Mapping[str, Any], count: int, path: Path) -> None:
    """Check a subtask with groups: for each class the teacher's outputs, and as many names."""
    members: Any = subtask["class_members"]
    names: Any = subtask.get("member_names")
    if not _is_list_of(members, list) or len(members) != count or not all(_is_list_of(each, int) for each in members):
        raise BundleError(f"{path} is damaged: subtask.class_members must list the indices of each class.")
    flat = [index for each in members for index in each]
    if not all(members) or min(flat) < 0 or len(set(flat)) < len(flat):
        raise BundleError(f"{path} is damaged: subtask.class_members must list different indices for each class.")
    if not _is_list_of(names, list) or list(map(len, names)) != list(map(len, members)):
        raise BundleError(f"{path} is damaged: subtask.member_names must have a name for each of class_members.")
    if not all(is_plain_text(name) for each in names for name in each):
        raise BundleError(f"{path} is damaged: subtask.member_names must be strings without control characters.")


def _is_list_of(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(type(item) is kind for item in value)


def _check_file(role: str, entry: Any, path: Path) -> None:
    if not isinstance(entry, Mapping) or {"path", "sha256", "bytes"} - set(entry):
        raise BundleError(f"{path} is damaged: files.{role} must have path, sha256 and bytes.")
    relative, sha256, size = entry["path"], entry["sha256"], entry["bytes"]
    if not isinstance(relative, str) or not _stays_inside(relative):
        raise BundleError(f"{path}: the path {quote_value(relative)} of {role} leads out of the bundle; it is refused.")
    if len(relative) > _LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in relative.split("/")):
        raise BundleError(f"{path}: the path {quote_value(relative)} of {role} is longer than file systems take.")
    if not isinstance(sha256, str) or len(sha256) != 64 or not set(sha256) <= _HEX:
        raise BundleError(f"{path} is damaged: files.{role}.sha256 must be 64 hexadecimal digits.")
    if type(size) is not int or not 0 <= size <= _LARGEST_FILE:
        raise BundleError(
            f"{path} is damaged: files.{role}.bytes is {quote_value(size)}; it must be a whole number up to "
            f"{_LARGEST_FILE}."
        )


def _stays_inside(relative: str) -> bool:
    """Judge the text alone, by the rules of every platform, because any platform can pack a bundle."""
    parts = PurePosixPath(relative).parts
    windows = PureWindowsPath(relative)
    # Windows drops dots and spaces at the end of a name and reads text after a colon as a stream. It and macOS ignore
    # case.
    foreign = set(relative) & set("\\:") or not is_plain_text(relative) or windows.drive or windows.root
    renamed = any(part[-1] in ". " for part in parts)
    is_manifest = tuple(part.casefold() for part in parts) == (MANIFEST,)
    return bool(parts) and not foreign and not renamed and not is_manifest
