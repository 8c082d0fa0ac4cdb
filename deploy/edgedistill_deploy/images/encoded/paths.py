"""The paths of many files in little memory: bytes in arrays, which processes share, and no Python object for a file."""

import array
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.files.names import printable


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Texts:
    """Byte strings end to end: string i is `joined[ends[i - 1]:ends[i]]`.

    A million of them as Python strings take a header and a reference count each, and counting references makes every
    process copy the memory that it could share.
    """

    joined: NDArray[np.uint8] = field(repr=False)
    ends: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> bytes:
        start = int(self.ends[index - 1]) if index else 0
        return self.joined[start : int(self.ends[index])].tobytes()


def pack_texts(texts: Iterable[bytes]) -> Texts:
    """Return byte strings packed into two arrays; one string is held at a time."""
    joined = bytearray()
    ends = array.array("q")
    for text in texts:
        joined += text
        ends.append(len(joined))
    return Texts(joined=np.frombuffer(bytes(joined), dtype=np.uint8), ends=np.array(ends, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileContents:
    """Image files: file i is `names[i]`, as the bytes that systems keep, in the folder `folders[in_folder[i]]`."""

    folders: tuple[Path, ...] = field(repr=False)
    in_folder: NDArray[np.int32] = field(repr=False)
    names: Texts = field(repr=False)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Path]:
        return map(self.source, range(len(self)))

    def source(self, row: int) -> Path:
        """Return the path of a file."""
        return self.folders[int(self.in_folder[row])] / os.fsdecode(self.names[row])

    def name(self, row: int) -> str:
        """Return the path as `printable` text."""
        return printable(str(self.source(row)))


def pack_files(files: Iterable[tuple[Path, str]]) -> FileContents:
    """Return files, each given as its folder and its name there; one of them is held at a time."""
    folders: dict[Path, int] = {}
    places = array.array("i")

    def names() -> Iterator[bytes]:
        for folder, name in files:
            places.append(folders.setdefault(folder, len(folders)))
            yield os.fsencode(name)

    packed = pack_texts(names())
    return FileContents(folders=tuple(folders), in_folder=np.array(places, dtype=np.int32), names=packed)


def join_texts(parts: list[Texts]) -> Texts:
    """Return all strings of the parts as one."""
    starts = np.cumsum([0, *(len(each.joined) for each in parts)])
    ends = [each.ends + start for each, start in zip(parts, starts, strict=False)]
    return Texts(
        joined=np.concatenate([each.joined for each in parts] or [np.zeros(0, np.uint8)]),
        ends=np.concatenate(ends or [np.zeros(0, np.int64)]),
    )
