"""Arrays from .npz files of any source: without pickle, and every size is checked before it is read."""

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError, quote_value

Arrays = dict[str, NDArray[Any]]

_HEADER_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
# What numpy writes, and bzip2, which packs the embedded digits.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error, struct.error)
_LONGEST_AXIS = 1 << 40  # an array without values can claim any shape
_SLACK_BYTES = 16 << 20  # for the archive's own tables, and for other arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """What an array must be: its dtype kinds ("u", "iu", "U"), its numbers of axes, and how to say that in words."""

    kinds: str
    axes: tuple[int, ...]
    description: str
    item_bytes: int | None = None
    required: bool = True

    def fits(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bool:
        """Return whether an array may have this dtype and shape."""
        kind_fits = dtype.kind in self.kinds and self.item_bytes in (None, dtype.itemsize)
        return kind_fits and len(shape) in self.axes


def read_arrays(
    path: Path, specs: Mapping[str, ArraySpec], error: type[EdgeDistillError], *, limit_bytes: int
) -> Arrays:
    """Read the named arrays, and no others.

    Raises `error` naming the file when it is missing or no .npz, when an array is missing or has another type, and when
    the arrays together exceed `limit_bytes`.
    """
    try:
        if path.stat().st_size > limit_bytes + _SLACK_BYTES:
            raise error(f"{path} has {path.stat().st_size} bytes, more than the {limit_bytes} that are read.")
        with zipfile.ZipFile(path) as archive:
            sizes = _check_headers(archive, path, specs, error)
            if (total := sum(sizes.values())) > limit_bytes:
                raise error(f"The arrays of {path} take {total} bytes, more than the {limit_bytes} that are read.")
            return {name: _read_array(archive, name) for name in sizes}
    except FileNotFoundError as cause:
        raise error(f"{path} does not exist.") from cause
    except _UNREADABLE as cause:
        raise error(f"{path} cannot be read as .npz: {' '.join(str(cause).split())}.") from cause


def _check_headers(
    archive: zipfile.ZipFile, path: Path, specs: Mapping[str, ArraySpec], error: type[EdgeDistillError]
) -> dict[str, int]:
    """Return the size in bytes of each wanted array that the file has."""
    members = {info.filename: info for info in archive.infolist()}
    sizes = {}
    for name, spec in specs.items():
        info = members.get(f"{name}.npy")
        if info is not None:
            if info.compress_type not in _COMPRESSIONS:
                raise ValueError(f"{name} is packed by method {info.compress_type}")
            with archive.open(info) as stream:
                sizes[name] = _check_header(stream, info.file_size, f"{path}: {name}", spec, error)
        elif spec.required:
            present = ", ".join(sorted(each.removesuffix(".npy") for each in members)) or "nothing"
            raise error(f"{path} lacks the array {name} ({spec.description}); it holds {present}.")
    return sizes


def _check_header(
    stream: IO[bytes], member_bytes: int, name: str, spec: ArraySpec, error: type[EdgeDistillError]
) -> int:
    shape, dtype = _read_header(stream)
    if not spec.fits(dtype, shape):
        raise error(f"{name} has dtype {dtype} and shape {shape}; it must be {spec.description}.")
    size, held = math.prod(shape) * dtype.itemsize, member_bytes - stream.tell()
    if any(axis < 0 or axis > _LONGEST_AXIS for axis in shape):
        raise ValueError(f"{name} claims the shape {quote_value(shape)}")
    if size > held:
        raise error(f"{name} claims {size} bytes, but the file holds {held} for it; it is damaged.")
    return size


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"unsupported .npy version {version}")
    try:
        shape, _, dtype = _HEADER_READERS[version](stream)
    except Exception as cause:  # numpy reads the header as Python source, and its tokenizer raises anything
        raise ValueError(f"damaged .npy header, {cause}") from cause
    return shape, dtype


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array
