"""What a shard holds: made in one pass over its headers and labels, and kept in the cache."""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, EdgeDistillError, reading
from edgedistill_deploy.files.caches import cache_folder
from edgedistill_deploy.files.json_text import parse_json
from edgedistill_deploy.files.npz import ArraySpec, read_arrays
from edgedistill_deploy.files.places import describe_place, is_url, read_range
from edgedistill_deploy.files.writing import write_whole
from edgedistill_deploy.images.decode import SUFFIXES
from edgedistill_deploy.images.encoded._tar import Member, ReadAt, TarError, read_members
from edgedistill_deploy.images.encoded.paths import Texts, pack_texts

_VERSION = 2  # of the cached files
_MOST_CACHED = 1 << 30  # bytes
_MOST_LABEL = 1 << 16  # bytes of a file with a label
_BLOCK = 4 << 20  # bytes asked of a server at once
_LOCAL_BLOCK = 4096  # bytes read of a file at once: a header, a label and the next header, but no image
_SAMPLE = re.compile(rb"((?:.*/)?[^/.]*)\.([^/]*)", re.DOTALL)
_LABEL_KINDS = ("cls", "json", "txt")
_NAMES, _NUMBERS = ("class_name", "label_name", "class", "synset", "wnid"), ("label", "cls", "target", "class_id")
_SPECS = {
    "offsets": ArraySpec(kinds="i", axes=(1,), item_bytes=8, description="int64 (N,)"),
    "sizes": ArraySpec(kinds="i", axes=(1,), item_bytes=8, description="int64 (N,)"),
    "names": ArraySpec(kinds="u", axes=(1,), item_bytes=1, description="uint8 (bytes,)"),
    "name_ends": ArraySpec(kinds="i", axes=(1,), item_bytes=8, description="int64 (N,)"),
    "labels": ArraySpec(kinds="u", axes=(1,), item_bytes=1, description="uint8 (bytes,)"),
    "label_ends": ArraySpec(kinds="i", axes=(1,), item_bytes=8, description="int64 (N,)"),
    "passed_over": ArraySpec(kinds="i", axes=(1,), item_bytes=8, description="int64 (2,)"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardIndex:
    """The images of a shard: where each lies, its name and its label as text, "" for none.

    `without_label` images have none, and `without_image` samples were passed over.
    """

    offsets: NDArray[np.int64] = field(repr=False)
    sizes: NDArray[np.int64] = field(repr=False)
    names: Texts = field(repr=False)
    labels: Texts = field(repr=False)
    without_label: int = 0
    without_image: int = 0

    def __len__(self) -> int:
        return len(self.offsets)


def find_index(place: str) -> ShardIndex:
    """Return the index of a shard, from the cache or made anew. Raises DataError for a shard that is none."""
    length, state = describe_place(place)
    cached = _cached(place, length, state)
    with contextlib.suppress(EdgeDistillError):
        return _read(cached, length)
    index = _make_index(place, length)
    with contextlib.suppress(EdgeDistillError, OSError):  # a cache that cannot be written costs time, not the run
        _write(cached, index)
    return index


def is_indexed(place: str) -> bool:
    """Return whether the cache has the index of a shard. Raises DataError where there is no such shard."""
    return _cached(place, *describe_place(place)).is_file()


def _cached(place: str, length: int, state: str) -> Path:
    whole = place if is_url(place) else str(Path(place).absolute())
    key = hashlib.sha256(os.fsencode(f"{_VERSION}|{whole}|{length}|{state}")).hexdigest()
    return cache_folder("shards") / f"{key}.npz"


def _write(path: Path, index: ShardIndex) -> None:
    with write_whole(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            offsets=index.offsets,
            sizes=index.sizes,
            names=index.names.joined,
            name_ends=index.names.ends,
            labels=index.labels.joined,
            label_ends=index.labels.ends,
            passed_over=np.array([index.without_label, index.without_image], dtype=np.int64),
        )


def _read(path: Path, length: int) -> ShardIndex:
    """Read a cached index. Raises DataError for one that is missing, damaged or does not fit the shard."""
    held = read_arrays(path, _SPECS, DataError, limit_bytes=_MOST_CACHED)
    names = Texts(joined=held["names"], ends=held["name_ends"])
    labels = Texts(joined=held["labels"], ends=held["label_ends"])
    offsets, sizes = held["offsets"], held["sizes"]
    fits = len(offsets) == len(sizes) == len(names) == len(labels) and len(held["passed_over"]) == 2
    inside = fits and bool(np.all((offsets >= 0) & (sizes >= 0) & (sizes <= length) & (offsets <= length - sizes)))
    whole = all(
        bool(np.all(np.diff(each.ends, prepend=0) >= 0)) and (each.ends[-1:] == len(each.joined)).all()
        for each in (names, labels)
    )
    if not (inside and whole):
        raise DataError(f"{path} does not fit its shard.")
    without_label, without_image = held["passed_over"].tolist()
    return ShardIndex(
        offsets=offsets,
        sizes=sizes,
        names=names,
        labels=labels,
        without_label=without_label,
        without_image=without_image,
    )


def _make_index(place: str, length: int) -> ShardIndex:
    images: list[Member] = []
    labels: list[bytes] = []
    without_label = without_image = 0
    try:
        with _parts_of(place, length) as read_at:
            for image, label in _samples(read_at, length):
                if image is None:
                    without_image += 1
                else:
                    without_label += not label
                    images.append(image)
                    labels.append(label.encode("utf-8", errors="surrogateescape"))
    except TarError as error:
        raise DataError(f"The shard {place} {error}.") from error
    return ShardIndex(
        offsets=np.array([each.offset for each in images], dtype=np.int64),
        sizes=np.array([each.size for each in images], dtype=np.int64),
        names=pack_texts(each.name for each in images),
        labels=pack_texts(labels),
        without_label=without_label,
        without_image=without_image,
    )


def _samples(read_at: ReadAt, length: int) -> Iterator[tuple[Member | None, str]]:
    """Yield the image and the label of each sample; files of one name that follow each other are a sample."""
    current, image, labels = b"", None, dict[str, str]()
    for member in read_members(read_at, length):
        parts = _SAMPLE.fullmatch(member.name)
        if parts is None or parts[1].rpartition(b"/")[2] == b"":  # no suffix, or a hidden file
            continue
        if parts[1] != current:
            if current:
                yield image, _best(labels)
            current, image, labels = parts[1], None, {}
        kind = parts[2].decode("utf-8", errors="replace").lower()
        if image is None and f".{kind.rpartition('.')[2]}" in SUFFIXES:
            image = member
        elif kind in _LABEL_KINDS and member.size <= _MOST_LABEL:
            labels[kind] = _label_in(read_at(member.offset, member.size), kind)
    if current:
        yield image, _best(labels)


def _best(labels: dict[str, str]) -> str:
    return next((labels[kind] for kind in _LABEL_KINDS if labels.get(kind)), "")


def _label_in(content: bytes, kind: str) -> str:
    """Return the label in a file of a sample, "" where there is none."""
    if kind != "json":
        return content.decode("utf-8", errors="replace").strip()
    try:
        value = parse_json(content)
    except ValueError:
        return ""
    if not isinstance(value, dict):
        return str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    named = (value.get(key) for key in (*_NAMES, *_NUMBERS))
    return next((str(each).strip() for each in named if isinstance(each, (str, int)) and each is not True), "")


@contextlib.contextmanager
def _parts_of(place: str, length: int) -> Iterator[ReadAt]:
    """Yield a function that reads parts of a shard in rising order: of a server, it asks for large blocks."""
    if is_url(place):
        yield _in_blocks(lambda offset, size: read_range(place, offset, size), length, _BLOCK)
        return
    with reading(Path(place)), Path(place).open("rb") as stream:

        def read_at(offset: int, size: int) -> bytes:
            stream.seek(offset)
            return stream.read(size)

        yield _in_blocks(read_at, length, _LOCAL_BLOCK)


def _in_blocks(read_at: ReadAt, length: int, block_bytes: int) -> ReadAt:
    """Return a function that reads a whole block where a part is not in the last one."""
    start, block = 0, b""

    def read_part(offset: int, size: int) -> bytes:
        nonlocal start, block
        if not start <= offset <= offset + size <= start + len(block):
            start, block = offset, read_at(offset, max(size, min(block_bytes, length - offset)))
        return block[offset - start : offset - start + size]

    return read_part
