"""What a look at image files found, kept in a file, so that a run that goes on does not decode them again."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.likeness import SIDE, Thumbnails
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.npz import ArraySpec, read_arrays
from edgedistill_deploy.files.writing import write_whole

_LIMIT_BYTES = 4 << 30
_VERSION = 1  # of what a look finds; another number makes all earlier looks worthless
# A file that changed so shortly before it was looked at may change again within the same tick of its clock.
_RESTLESS_S = 2.0
_DIGEST_BYTES = 32
_SPECS = {
    "made_with": ArraySpec(kinds="u", item_bytes=1, axes=(1,), description="JSON, uint8 (n,)"),
    "names": ArraySpec(kinds="u", item_bytes=1, axes=(1,), description="paths, each with a zero behind, uint8 (n,)"),
    "states": ArraySpec(kinds="i", item_bytes=8, axes=(2,), description="int64 (N, 3)"),
    "reasons": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (N,)"),
    "digests": ArraySpec(kinds="u", item_bytes=1, axes=(2,), description="uint8 (N, 32)"),
    "thumbnail_rows": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (N,)"),
    "thumbnails": ArraySpec(kinds="u", item_bytes=1, axes=(4,), description=f"uint8 (M, {SIDE}, {SIDE}, 3)"),
}


@dataclass(frozen=True, slots=True)
class FileState:
    """What changes when a file changes: its size in bytes, and two times in ns, of its content and of its entry."""

    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at an image found: why it cannot be used, or its digest and its thumbnail.

    `thumbnail` is None for images that are too small to compare. `path` and `state` are those of a file that did not
    change while it was read, else None. `is_known` says that it is of an earlier look.
    """

    name: str
    reason: str = ""
    digest: str = ""
    thumbnail: Thumbnails | None = None
    path: Path | None = None
    state: FileState | None = None
    is_known: bool = False


def find_state(path: Path | None) -> FileState | None:
    """Return the state of a file; None if there is none, or it is so new that a change could go unseen."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_mtime_ns > time.time_ns() - int(_RESTLESS_S * 1e9):
        return None
    return FileState(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLooks:
    """Looks of an earlier run, by the path of the file."""

    rows: Mapping[bytes, int] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def find(self, name: str, path: Path | None, state: FileState | None) -> Look | None:
        """Return what was found in a file of this state; None where that is not known."""
        row = self.rows.get(os.fsencode(path)) if path is not None and state is not None else None
        if row is None or state is None or tuple(self.arrays["states"][row].tolist()) != _as_numbers(state):
            return None
        reason, place = int(self.arrays["reasons"][row]), int(self.arrays["thumbnail_rows"][row])
        if reason >= 0:
            return Look(name, self.reasons[reason], path=path, state=state, is_known=True)
        small = self.arrays["thumbnails"][place] if place >= 0 else None
        return Look(name, "", self.arrays["digests"][row].tobytes().hex(), small, path, state, is_known=True)


def read_known_looks(path: Path | None) -> KnownLooks:
    """Read what `write_known_looks` wrote; nothing is known where that is missing, damaged or of other libraries."""
    if path is None or not path.is_file():
        return KnownLooks()
    try:
        arrays = read_arrays(path, _SPECS, DataError, limit_bytes=_LIMIT_BYTES)
        made_with = json.loads(arrays["made_with"].tobytes())
        reasons = tuple(map(str, made_with.pop("reasons")))
    except (DataError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        return KnownLooks()
    names = arrays["names"].tobytes().split(b"\0")[:-1]
    if made_with != _made_with() or not _fit_each_other(arrays, len(names), len(reasons)):
        return KnownLooks()
    return KnownLooks(rows={name: row for row, name in enumerate(names)}, arrays=arrays, reasons=reasons)


def write_known_looks(path: Path, looks: Sequence[Look]) -> None:
    """Write the looks at files that did not change meanwhile, whole or not at all.

    Raises NotWrittenError where the file cannot be written.
    """
    lasting = [(each.path, each.state, each) for each in looks if each.path is not None and each.state is not None]
    reasons = sorted({each.reason for *_, each in lasting if each.reason})
    places = {reason: place for place, reason in enumerate(reasons)}
    small = [each.thumbnail for *_, each in lasting if each.thumbnail is not None]
    has_small = np.array([each.thumbnail is not None for *_, each in lasting], dtype=bool)
    digests = b"".join(bytes.fromhex(each.digest).ljust(_DIGEST_BYTES, b"\0") for *_, each in lasting)
    arrays = {
        "made_with": _as_bytes(json.dumps({**_made_with(), "reasons": reasons}).encode()),
        "names": _as_bytes(b"".join(os.fsencode(file) + b"\0" for file, *_ in lasting)),
        "states": np.array([_as_numbers(state) for _, state, _ in lasting], dtype=np.int64).reshape(-1, 3),
        "reasons": np.array([places.get(each.reason, -1) for *_, each in lasting], dtype=np.int64),
        "digests": _as_bytes(digests).reshape(-1, _DIGEST_BYTES),
        "thumbnail_rows": np.where(has_small, np.cumsum(has_small) - 1, -1),
        "thumbnails": np.stack(small) if small else np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8),
    }
    with write_whole(path, inside=path.parent) as temporary:
        np.savez(temporary, **arrays)  # type: ignore[arg-type]  # numpy's stub takes no mapping of arrays


def _as_numbers(state: FileState) -> tuple[int, int, int]:
    return state.size, state.modified_ns, state.changed_ns


def _as_bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, dtype=np.uint8)


def _made_with() -> dict[str, Any]:
    """Return what decides how a file is decoded."""
    versions: dict[str, str] = {}
    for library in ("pillow", "pillow-heif"):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = ""
    return {"kind": "known-looks", "version": _VERSION, **versions}


def _fit_each_other(arrays: Mapping[str, NDArray[Any]], count: int, reason_count: int) -> bool:
    """Tell whether the arrays have a row for each file, and point to no row that is not there."""
    shapes = {
        "states": (count, 3),
        "reasons": (count,),
        "digests": (count, _DIGEST_BYTES),
        "thumbnail_rows": (count,),
        "thumbnails": (len(arrays["thumbnails"]), SIDE, SIDE, 3),
    }
    limits = {"reasons": reason_count, "thumbnail_rows": len(arrays["thumbnails"])}
    return all(arrays[name].shape == shape for name, shape in shapes.items()) and all(
        bool(np.all((arrays[name] >= -1) & (arrays[name] < most))) for name, most in limits.items()
    )
