"""Headers of tar archives are read as Python's tarfile reads them, and no archive leads out of itself."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill_deploy.images.encoded._tar import BLOCK, TarError, read_members

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
NAMES = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=40).map(
    lambda text: text.strip("/") or "x"
)


def written(members: list[tuple[str, bytes]], kind: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read(archive: bytes) -> list[tuple[bytes, bytes]]:
    def read_at(offset: int, size: int) -> bytes:
        assert 0 <= offset <= offset + size <= len(archive)
        return archive[offset : offset + size]

    return [(each.name, read_at(each.offset, each.size)) for each in read_members(read_at, len(archive))]


def require_members_or_one_sentence(archive: bytes) -> None:
    said = "is "
    try:
        read(archive)
    except TarError as error:
        said = str(error)
    assert said.startswith(("is ", "holds "))


@settings(max_examples=60, deadline=None)
@given(
    members=st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=9), st.binary(max_size=1100)), max_size=6),
    kind=st.sampled_from(FORMATS[1:]),
)
def test_members_are_those_of_tarfile(members: list[tuple[list[str], bytes]], kind: int) -> None:
    archive = written([("/".join(parts), content) for parts, content in members], kind)
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        wanted = [
            (each.name.encode("utf-8", "surrogateescape"), opened.extractfile(each).read())  # type: ignore[union-attr]
            for each in opened
        ]
    assert [(name.rstrip(b"/"), content) for name, content in read(archive)] == wanted


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 5 * BLOCK - 1), value=st.integers(0, 255), kind=st.sampled_from(FORMATS))
def test_a_damaged_archive_ends_in_one_sentence(place: int, value: int, kind: int) -> None:
    archive = bytearray(written([("a" * 90 + "/" + "b" * 60, b"x" * 700), ("c.txt", b"y")], kind))
    archive[place] = value
    require_members_or_one_sentence(bytes(archive))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=3 * BLOCK), mends=st.booleans())
def test_any_bytes_end_in_one_sentence(content: bytes, mends: bool) -> None:
    archive = bytearray(content.ljust(BLOCK, b"\1"))
    if mends:  # the sum of the header is right, and all else is as it comes
        archive[148:156] = b" " * 8
        archive[148:156] = b"%06o\0 " % sum(archive[:BLOCK])
    require_members_or_one_sentence(bytes(archive))


def forged(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    header = bytearray(name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0")
    header += b" " * 8 + kind + b"\0" * 100 + b"ustar\x0000"
    header = header.ljust(BLOCK, b"\0")
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (forged(b"a", b"77777777777"), "is cut off: the file at byte 0 claims 8589934591 bytes"),
        (forged(b"a", b"\x80" + b"\xff" * 11), "is cut off: the file at byte 0 claims "),
        (forged(b"a", b"\xff" * 12), "is cut off"),
        (forged(b"a", b"-1"), "is damaged at byte 0"),
        (forged(b"a", b"9"), "is damaged at byte 0"),
        (forged(b"a", b"0", b"S"), "holds a sparse file"),
        (forged(b"a", b"77777777777", b"x"), "is cut off"),
        (forged(b"a", b"77777777777", b"L"), "is cut off"),
        (b"\x1f\x8b" + bytes(600), "is compressed"),
        (b"hello" * 200, "is no tar archive"),
    ],
)
def test_sizes_that_cannot_be_are_refused(archive: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        read(archive)


def test_records_and_names_of_no_sensible_length_are_passed_over() -> None:
    archive = forged(b"h", b"%o" % (1 << 20), b"x") + bytes(1 << 20) + forged(b"a.png", b"0")
    asked = []

    def read_at(offset: int, size: int) -> bytes:
        asked.append(size)
        return archive[offset : offset + size]

    assert [each.name for each in read_members(read_at, len(archive))] == [b"a.png"]
    assert max(asked) == BLOCK


def test_a_link_with_a_size_has_no_bytes() -> None:
    archive = forged(b"link", b"77777777777", b"1") + forged(b"a.png", b"0")
    assert [name for name, _ in read(archive)] == [b"a.png"]
