"""Pictures in class folders: nothing is replaced, and nothing lands outside."""

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill_deploy.errors import DataError, NotWrittenError, UsageError
from edgedistill_deploy.prediction.sorting import Aside, Sorter, folder_names

NAMES = ("red", "golden retriever", "../../etc", "a/b", "a_b", "A:B", "CON", ".", "not sure", "Ελλάδα")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "photo.jpg"
    path.parent.mkdir()
    path.write_bytes(b"one")
    return path


def test_pictures_are_copied_into_the_folders_of_their_classes(photo: Path, tmp_path: Path) -> None:
    sorter = Sorter(tmp_path / "new" / "out", NAMES)
    copy = sorter.put(photo, "golden retriever")
    assert copy == tmp_path / "new" / "out" / "golden retriever" / "photo.jpg"
    assert copy.read_bytes() == b"one"
    assert not copy.is_symlink()
    assert photo.read_bytes() == b"one"
    assert sorter.put(photo, "Ελλάδα").parent.name == "Ελλάδα"
    assert sorter.count == 2


def test_no_class_name_leads_out_and_all_have_folders_of_their_own(photo: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    sorter = Sorter(root, NAMES)
    places = [sorter.put(photo, label) for label in (*NAMES, *Aside)]
    assert len({place.parent.name.casefold() for place in places}) == len(NAMES) + 2
    assert all(place.parent.parent == root for place in places)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {photo, *places}
    assert sorter.put(photo, "not sure").parent != sorter.put(photo, Aside.NOT_SURE).parent


@given(st.lists(st.text(max_size=300), unique=True, max_size=8))
def test_folder_names_are_names_on_every_system(labels: list[str]) -> None:
    names = folder_names(labels)
    assert len({name.casefold() for name in names}) == len(labels) == len(names)
    for name in names:
        assert name
        assert name == name.strip(" .")
        assert not set(name) & set('\\/:*?"<>|')
        assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        assert len(name.encode()) <= 255
        assert name.split(".")[0].upper() not in ("CON", "NUL", "COM1", "LPT9")


def test_another_picture_of_the_same_name_gets_a_number_and_the_same_one_stays(photo: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    first = Sorter(root, NAMES).put(photo, "red")
    assert Sorter(root, NAMES).put(photo, "red") == first
    photo.write_bytes(b"two")
    second = Sorter(root, NAMES).put(photo, "red")
    assert (first.read_bytes(), second.read_bytes(), second.name) == (b"one", b"two", "photo-2.jpg")
    assert Sorter(root, NAMES).put(photo, "red") == second
    (root / "red" / "photo-3.jpg").symlink_to(root / "nowhere")  # a broken link is something, too
    photo.write_bytes(b"three")
    assert Sorter(root, NAMES).put(photo, "red").name == "photo-4.jpg"
    assert not (root / "nowhere").exists()


def test_links_point_to_the_picture_and_are_made_once(photo: Path, tmp_path: Path) -> None:
    root = tmp_path / "out"
    link = Sorter(root, NAMES, links=True).put(photo, "red")
    assert link.is_symlink()
    assert link.resolve() == photo
    assert Sorter(root, NAMES, links=True).put(photo, "red") == link
    copy = Sorter(root, NAMES).put(photo, "red")  # a copy is wanted now; the link stays
    assert (copy.name, copy.is_symlink(), link.is_symlink()) == ("photo-2.jpg", False, True)


def test_a_relative_path_gives_a_link_that_leads_somewhere(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Sorter(Path("out"), NAMES, links=True).put(Path("in/photo.jpg"), "red").read_bytes() == b"one"


def test_nothing_is_written_through_a_link_out_of_the_folder(photo: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "red").symlink_to(elsewhere)
    with pytest.raises(NotWrittenError, match=r"is a link to .*elsewhere, and nothing is written through it"):
        Sorter(root, NAMES).put(photo, "red")
    assert list(elsewhere.iterdir()) == []
    (tmp_path / "mine").symlink_to(elsewhere)  # the user's own choice of a folder may be a link
    assert Sorter(tmp_path / "mine", NAMES).put(photo, "red").parent.parent == elsewhere


def test_a_link_of_the_pictures_name_is_not_followed(photo: Path, tmp_path: Path) -> None:
    root, victim = tmp_path / "out", tmp_path / "victim"
    (root / "red").mkdir(parents=True)
    (root / "red" / "photo.jpg").symlink_to(victim)
    assert Sorter(root, NAMES).put(photo, "red").name == "photo-2.jpg"
    assert not victim.exists()


def test_names_of_any_bytes_and_of_any_length_are_kept_as_far_as_they_fit(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    odd, long = folder / os.fsdecode(b"caf\xe9.png"), folder / ("x" * 240 + ".png")
    for path in (odd, long):
        path.write_bytes(os.fsencode(path))
    sorter = Sorter(tmp_path / "out", NAMES)
    assert sorter.put(odd, "red").name == odd.name
    assert len(sorter.put(long, "red").name) == 200
    long.write_bytes(b"other")
    assert sorter.put(long, "red").name.endswith("x-2.png")


def test_what_cannot_be_done_is_one_sentence(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"photo.jpg is a file; name a folder"):
        Sorter(photo, NAMES)
    sorter = Sorter(tmp_path / "out", NAMES)
    (tmp_path / "out" / "red").write_text("a file")
    with pytest.raises(NotWrittenError, match="red cannot be written: File exists"):
        sorter.put(photo, "red")
    photo.unlink()
    with pytest.raises(DataError, match=r"photo.jpg cannot be read: No such file"):
        sorter.put(photo, "a/b")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [tmp_path / "out" / "red"]
