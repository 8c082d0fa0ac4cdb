"""Arrays from IDX files, the format of MNIST and of its successors."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, reading

MAX_BYTES = 1 << 30  # 28 times the pixels of MNIST's 60,000 training images
_GZIP_MAGIC = b"\x1f\x8b"
_UINT8 = 8  # the code of the only element type that images and labels have
_BLOCK = 1 << 20


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the read-only array of `axes` axes in an IDX file of bytes, gzipped or not (the content says which).

    The file is two zero bytes, the type (8, unsigned bytes), the number of axes, the length of each axis as a
    big-endian 32-bit number, and the elements in row order (LeCun, Cortes and Burges, "The MNIST database").

    Raises DataError naming the file when it cannot be read, is no such file, is too short or too long, or claims more
    than `MAX_BYTES`.
    """
    with reading(path), path.open("rb") as stream:
        if stream.peek(2)[:2] != _GZIP_MAGIC:
            return _read_array(stream, path, axes)
        try:
            with gzip.open(stream) as unpacked:
                return _read_array(unpacked, path, axes)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path} is a damaged gzip file: {error}. Fetch it again.") from error


def _read_array(stream: _Readable, path: Path, axes: int) -> NDArray[np.uint8]:
    shape = _read_shape(stream, path, axes)
    claimed = math.prod(shape)
    if claimed > MAX_BYTES:
        raise DataError(f"{path} claims {claimed} bytes, more than the {MAX_BYTES} that are read.")
    content = _read_at_most(stream, claimed + 1)
    if len(content) != claimed:
        held = f"more than {claimed}" if len(content) > claimed else str(len(content))
        raise DataError(
            f"{path} claims {claimed} bytes after its header, and holds {held}; it is cut off or another file is "
            "attached. Fetch it again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _read_shape(stream: _Readable, path: Path, axes: int) -> tuple[int, ...]:
    wanted = bytes((0, 0, _UINT8, axes))
    header = _read_at_most(stream, 4 + 4 * axes)
    if header[:4] != wanted:
        raise DataError(
            f"{path} starts with {header[:4].hex(' ') or 'nothing'}; an IDX file of bytes with {axes} axes starts with"
            f" {wanted.hex(' ')}."
        )
    if len(header) < 4 + 4 * axes:
        raise DataError(f"{path} ends within its header, after {len(header)} bytes. Fetch it again.")
    return tuple(int(length) for length in np.frombuffer(header, dtype=">u4", offset=4))


def _read_at_most(stream: _Readable, limit: int) -> bytes:
    """Read in blocks, because one large `read` would reserve all that the header claims."""
    blocks = []
    while limit > 0 and (block := stream.read(min(limit, _BLOCK))):
        blocks.append(block)
        limit -= len(block)
    return b"".join(blocks)
