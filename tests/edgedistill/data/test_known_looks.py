"""What was found in image files is kept, and only files that changed are decoded again."""

import os
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill_deploy.images.checks.looking import read_usable
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.photographs import encoded_anew, photograph, save, shrunk

COUNT = 12
TOTAL = 2 * COUNT + 4


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes with a copy across them and one within, a file that is cut off, and a small icon, all from before."""
    root = tmp_path / "data"
    for place, name in enumerate(("cat", "dog")):
        for number in range(COUNT):
            save(photograph(1000 * place + number), root / name / f"{number:02}.png")
    save(shrunk(photograph(3)), root / "cat" / "small.png")
    save(encoded_anew(photograph(1004)), root / "cat" / "other.png")
    save(Image.new("RGB", (9, 9), "red"), root / "dog" / "icon.png")
    (root / "dog" / "cut.png").write_bytes((root / "dog" / "00.png").read_bytes()[:200])
    for path in root.rglob("*.png"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return root


class Decoding:
    """Counts how often an image is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        read = read_usable

        def counted(images: ImageSet, row: int) -> Image.Image:
            self.names.append(Path(images.name(row)).name)
            return read(images, row)

        monkeypatch.setattr("edgedistill.data.checking.read_usable", counted)

    def taken(self) -> list[str]:
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> Decoding:
    return Decoding(monkeypatch)


def split(data: Path, kept: Path | None) -> tuple[object, ...]:
    """Split the images, and return all that a run takes from that."""
    parts: SubtaskImages = split_for_subtask(open_images(data), ["cat", "dog"], kept=kept)
    sets = (parts.train, parts.validation, parts.test)
    files = [[(each.name(row), each.digest(row)) for row in range(len(each))] for each in sets if each is not None]
    return files, parts.notes, parts.skipped


def test_nothing_is_decoded_twice_and_the_outcome_is_the_same(data: Path, tmp_path: Path, decoding: Decoding) -> None:
    without = split(data, None)
    assert len(decoding.taken()) == TOTAL
    first = split(data, tmp_path / "images.npz")
    assert len(decoding.taken()) == TOTAL
    again = split(data, tmp_path / "images.npz")
    assert decoding.taken() == []
    assert without == first == again
    assert any("stands under two labels" in note for note in str(first[1]).split("."))


def test_a_file_that_changed_is_decoded_again_even_where_its_size_and_time_are_kept(
    data: Path, tmp_path: Path, decoding: Decoding
) -> None:
    split(data, tmp_path / "images.npz")
    decoding.taken()
    (data / "cat" / "05.png").write_bytes(b"x" * (data / "cat" / "05.png").stat().st_size)
    os.utime(data / "cat" / "05.png", (1_000_000_000, 1_000_000_000))
    save(photograph(77), data / "cat" / "new.png")
    found = split(data, tmp_path / "images.npz")
    assert decoding.taken() == ["05.png", "new.png"]
    assert found == split(data, None)
    assert "05.png" in str(found[2])


def test_a_file_of_this_moment_is_not_relied_on(data: Path, tmp_path: Path, decoding: Decoding) -> None:
    (data / "dog" / "02.png").touch()
    for _ in range(2):
        split(data, tmp_path / "images.npz")
        assert "02.png" in decoding.taken()


def test_another_decoder_looks_anew(
    data: Path, tmp_path: Path, decoding: Decoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    split(data, tmp_path / "images.npz")
    decoding.taken()
    monkeypatch.setattr(metadata, "version", lambda library: "99")
    split(data, tmp_path / "images.npz")
    assert len(decoding.taken()) == TOTAL


def test_names_that_are_no_text_are_kept_too(tmp_path: Path, decoding: Decoding) -> None:
    for place, name in enumerate(("cat", "dog")):
        for number in range(4):
            path = tmp_path / name / os.fsdecode(b"caf\xe9-%d.png" % number)
            save(photograph(1000 * place + number), path)
            os.utime(path, (1_000_000_000, 1_000_000_000))
    first = split(tmp_path, tmp_path / "images.npz")
    assert len(decoding.taken()) == 8
    assert split(tmp_path, tmp_path / "images.npz") == first
    assert decoding.taken() == []


@given(place=st.integers(0), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_damaged_file_is_as_good_as_none(
    shared_looks: tuple[Path, bytes, tuple[object, ...]], place: int, value: int, cut: bool
) -> None:
    data, whole, expected = shared_looks
    kept = data.parent / "images.npz"
    at = place % len(whole)
    kept.write_bytes(whole[:at] if cut else whole[:at] + bytes([value]) + whole[at + 1 :])
    assert split(data, kept) == expected


@pytest.fixture(scope="module")
def shared_looks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, tuple[object, ...]]:
    root = tmp_path_factory.mktemp("looks") / "data"
    for place, name in enumerate(("cat", "dog")):
        for number in range(3):
            path = save(photograph(1000 * place + number, (40, 36)), root / name / f"{number}.png")
            os.utime(path, (1_000_000_000, 1_000_000_000))
    expected = split(root, root.parent / "images.npz")
    return root, (root.parent / "images.npz").read_bytes(), expected
