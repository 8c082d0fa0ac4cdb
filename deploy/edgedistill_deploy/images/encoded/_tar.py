"""Where the files of a tar archive lie. Only headers are read; nothing is extracted, and no link is followed.

The formats are those of POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

BLOCK = 512
_MOST_NAME_BYTES = 1 << 16  # of a long name, or of the records of one member; no system has longer paths
_WITHOUT_DATA = frozenset(b"123456")  # links, devices, folders, pipes: their size says nothing
_FILES = frozenset(b"\x0007")

ReadAt = Callable[[int, int], bytes]


class TarError(ValueError):
    """What is wrong with an archive, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Member:
    """A plain file in an archive: its name, and where its bytes begin and how many they are."""

    name: bytes
    offset: int
    size: int


def read_members(read_at: ReadAt, length: int) -> Iterator[Member]:
    """Yield the plain files of an archive of `length` bytes, in order; `read_at(offset, size)` returns bytes of it.

    Raises TarError for an archive that is compressed, cut off, or none.
    """
    offset, name, size = 0, b"", -1  # a long name and a large size stand before the header that they belong to
    while offset + BLOCK <= length:
        header = read_at(offset, BLOCK)
        if not header.strip(b"\0"):
            return
        _check(header, offset)
        kind, data = header[156], offset + BLOCK
        own = 0 if kind in _WITHOUT_DATA else _number(header[124:136], offset)
        held = size if kind in _FILES and size >= 0 else own
        if data + held > length:
            raise TarError(f"is cut off: the file at byte {offset} claims {held} bytes")
        if kind == ord("S"):
            raise TarError("holds a sparse file; write it without --sparse")
        if kind in _FILES:
            yield Member(name or _name_in(header), data, held)
        if kind in b"Lx":
            name, size = _announced(kind, read_at(data, own) if own <= _MOST_NAME_BYTES else b"", name, size)
        elif kind not in b"Kg":
            name, size = b"", -1
        offset = data + _padded(held)


def _announced(kind: int, content: bytes, name: bytes, size: int) -> tuple[bytes, int]:
    """Return the name and the size of the next file, where these records say them."""
    if kind == ord("L"):
        return content.rstrip(b"\0") or name, size
    path, claimed = _records(content)
    return path or name, claimed if claimed >= 0 else size


def _check(header: bytes, offset: int) -> None:
    if offset == 0 and header[:2] == b"\x1f\x8b":
        raise TarError("is compressed, so no image can be read alone; unpack it with gunzip")
    claimed = _octal(header[148:156])
    if claimed != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise TarError("is no tar archive" if offset == 0 else f"is damaged at byte {offset}")


def _number(field: bytes, offset: int) -> int:
    if field[0] & 0x80:  # GNU tar writes sizes from 8 GiB on as bytes
        return int.from_bytes(field[1:], "big")
    number = _octal(field)
    if number < 0:
        raise TarError(f"is damaged at byte {offset}")
    return number


def _octal(field: bytes) -> int:
    """Return an octal number, -1 for what is none."""
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if all(each in b"01234567" for each in digits) else -1


def _name_in(header: bytes) -> bytes:
    name, prefix = (header[start:end].partition(b"\0")[0] for start, end in ((0, 100), (345, 500)))
    return prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name


def _records(content: bytes) -> tuple[bytes, int]:
    """Return the path and the size in records of pax, b"" and -1 where they say neither."""
    path, size = b"", -1
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not 0 < int(length) <= len(content):
            break
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if key == b"path":
            path = value
        elif key == b"size" and value.isdigit() and len(value) < 20:
            size = int(value)
        content = content[int(length) :]
    return path, size


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
