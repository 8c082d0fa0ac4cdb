"""Which images a user's words stand for."""

import os
from pathlib import Path

import pytest

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.prediction.finding import find_images
from reference.colour_pictures import write_pictures


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures in three folders, beside what cameras and systems leave there."""
    monkeypatch.chdir(tmp_path)
    write_pictures(Path("photos"), ("red", "green"))
    write_pictures(Path("photos/trip"), ("yellow",), "jpg")
    write_pictures(Path("photos/.hidden"), ("red",))
    write_pictures(Path("photos/@eaDir"), ("red",))
    Path("photos/notes.txt").write_text("mine")
    Path("photos/raw.nef").write_bytes(b"raw")
    Path("photos/desktop.ini").write_text("Windows'")
    return Path("photos")


def names(*words: str, besides: tuple[Path, ...] = ()) -> list[str]:
    return [path.as_posix() for path in find_images(words, besides).paths]


def test_a_folder_stands_for_all_images_below_it_but_those_of_the_system(photos: Path) -> None:
    found = find_images(["photos"])
    assert [path.as_posix() for path in found.paths] == ["photos/0.png", "photos/1.png", "photos/trip/0.jpg"]
    assert found.named == frozenset()
    assert {Path(each.path).name: each.lost for each in found.skipped} == {"notes.txt": False, "raw.nef": True}


def test_words_are_taken_in_order_and_each_file_once(photos: Path) -> None:
    assert names("photos/trip/0.jpg", "photos", "photos/1.png") == [
        "photos/trip/0.jpg", "photos/0.png", "photos/1.png",
    ]  # fmt: skip
    assert find_images(["photos", "photos/1.png"]).named == {Path("photos/1.png")}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/*.png", ["photos/0.png", "photos/1.png"]),
        ("photos/*", ["photos/0.png", "photos/1.png"]),
        ("photos/**/[01].*", ["photos/0.png", "photos/1.png", "photos/@eaDir/0.png", "photos/trip/0.jpg"]),
        ("photos/**/*.jpg", ["photos/trip/0.jpg"]),
        ("photos/[1-9].png", ["photos/1.png"]),
        ("photos/t*", ["photos/trip/0.jpg"]),
        ("photos/*.txt", ["photos/notes.txt"]),  # asked for by its ending: it is tried
    ],
)
def test_patterns(photos: Path, pattern: str, expected: list[str]) -> None:
    assert names(pattern) == expected
    assert find_images([pattern]).named == frozenset()
    absolute = [Path.cwd() / each for each in expected]
    assert list(find_images([str(Path.cwd() / pattern)]).paths) == absolute


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(photos: Path) -> None:
    write_pictures(Path("photos"), ("red",))[0].rename("photos/[1].png")
    assert names("photos/[1].png") == ["photos/[1].png"]


def test_a_name_that_is_not_text_is_found(photos: Path) -> None:
    os.rename(b"photos/0.png", b"photos/caf\xe9.png")  # noqa: PTH104  # a name of bytes
    assert names("photos") == ["photos/1.png", "photos/caf\udce9.png", "photos/trip/0.jpg"]


def test_links_in_a_circle_end(photos: Path) -> None:
    Path("photos/trip/back").symlink_to(photos.absolute())
    assert names("photos") == ["photos/0.png", "photos/1.png", "photos/trip/0.jpg"]


def test_what_was_sorted_before_is_left_out_unless_it_is_named(photos: Path) -> None:
    sorted_there = Path("photos/trip")
    assert names("photos", besides=(sorted_there,)) == ["photos/0.png", "photos/1.png"]
    assert names("photos/**/*.jpg", "photos/0.png", besides=(sorted_there,)) == ["photos/0.png"]
    assert names("photos/trip/0.jpg", besides=(sorted_there,)) == ["photos/trip/0.jpg"]


def test_words_that_find_nothing_say_what_would_be_understood(photos: Path) -> None:
    Path("empty").mkdir()
    Path("notes").mkdir()
    Path("photos/notes.txt").rename("notes/notes.txt")
    Path("photos/raw.nef").rename("notes/raw.nef")
    for word, message in (
        ("photo.jpg", "There is no image photo.jpg; name an image, a folder, a pattern in quotes"),
        ("photos/*.gif", r"The pattern photos/\*.gif finds no image"),
        ("notes/*", r"finds no image.*Passed over: 1 no image \(.txt\): notes.txt; 1 raw photograph"),
        ("empty", r"empty and its folders hold no images \(.*jpg.*\)\.$"),
        (
            "notes",
            "notes and its folders hold no images .* Files there: notes.txt, raw.nef. Not read: 1 raw photograph",
        ),
    ):
        with pytest.raises(DataError, match=message):
            find_images([word])
