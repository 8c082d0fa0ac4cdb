import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images import idx
from edgedistill_deploy.images.idx import read_idx

_SHAPES = st.lists(st.integers(0, 7), min_size=1, max_size=4)


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Encode as the format's description says: 0, 0, 8, axes, big-endian lengths, bytes in row order."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _array(shape: list[int], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(shape=_SHAPES, seed=st.integers(0, 1000), packed=st.booleans())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], seed: int, packed: bool
) -> None:
    array = _array(shape, seed)
    path = tmp_path_factory.getbasetemp() / "array-idx"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    read = read_idx(path, axes=len(shape))
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    assert not read.flags.writeable


@settings(max_examples=60, deadline=None)
@given(data=st.data(), shape=_SHAPES, packed=st.booleans())
def test_a_file_cut_off_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, shape: list[int], packed: bool
) -> None:
    whole = idx_bytes(_array(shape))
    whole = gzip.compress(whole) if packed else whole
    kept = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.getbasetemp() / "cut-idx"
    path.write_bytes(whole[:kept])
    with pytest.raises(DataError, match="cut-idx "):
        read_idx(path, axes=len(shape))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=60), axes=st.integers(1, 4))
def test_any_bytes_are_an_array_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, axes: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any-idx"
    path.write_bytes(content)
    refused = ""
    try:
        read = read_idx(path, axes)
    except DataError as error:
        refused = str(error)
        read = np.zeros(0, np.uint8)
    assert "any-idx" in refused if refused else idx_bytes(read) == content


_GOOD = idx_bytes(_array([2, 3, 4]))
# Without a time, so that each process that collects the tests gives them the same names.
_PACKED = gzip.compress(_GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"starts with nothing; an IDX file of bytes with 3 axes starts with 00 00 08 03"),
        (b"\x00\x00\x08\x01" + _GOOD[4:], r"starts with 00 00 08 01; .* 3 axes starts with 00 00 08 03"),
        (b"\x00\x00\x0d\x03" + _GOOD[4:], r"starts with 00 00 0d 03"),
        (b"\x89PNG" + _GOOD[4:], r"starts with 89 50 4e 47"),
        (_GOOD[:10], r"ends within its header, after 10 bytes"),
        (_GOOD[:-1], r"claims 24 bytes after its header, and holds 23; it is cut off"),
        (_GOOD + b"x", r"claims 24 bytes after its header, and holds more than 24"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, rf"claims {(2**32 - 1) ** 3} bytes, more than the {1 << 30} that"),
        (_PACKED[:-9], r"is a damaged gzip file: "),
        (_PACKED[:12] + b"\xff\xff\xff\xff", r"is a damaged gzip file: "),
        (_PACKED[:-8] + bytes(8), r"is a damaged gzip file: CRC"),
        (_PACKED + b"more", r"is a damaged gzip file: Not a gzipped file"),
    ],
)
def test_what_is_wrong_is_said_with_the_files_name(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"t10k-images-idx3-ubyte {message}"):
        read_idx(path, axes=3)


def test_a_small_file_that_claims_much_is_refused_before_memory_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(idx_bytes(_array([10, 10, 10]))))
    monkeypatch.setattr(idx, "MAX_BYTES", 999)
    with pytest.raises(DataError, match=r"bomb\.gz claims 1000 bytes, more than the 999 that are read"):
        read_idx(path, axes=3)


def test_a_bomb_behind_a_small_claim_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(_GOOD + bytes(50_000_000)))
    taken: list[int] = []
    original = idx._read_at_most

    def counted(stream: object, limit: int) -> bytes:
        content: bytes = original(stream, limit)  # type: ignore[arg-type]
        taken.append(len(content))
        return content

    monkeypatch.setattr(idx, "_read_at_most", counted)
    with pytest.raises(DataError, match="holds more than 24"):
        read_idx(path, axes=3)
    assert sum(taken) <= 16 + math.prod((2, 3, 4)) + 1


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere cannot be read: No such file"):
        read_idx(tmp_path / "nowhere", axes=1)
    with pytest.raises(DataError, match=r"cannot be read: Is a directory"):
        read_idx(tmp_path, axes=1)
