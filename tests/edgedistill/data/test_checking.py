"""What a look at every image finds before anything is trained."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.checks.limits import UnusableImagesError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.image_files import png
from reference.photographs import encoded_anew, photograph, save, shrunk


def write_classes(root: Path, count: int = 20, names: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write `count` different pictures for each class."""
    for place, name in enumerate(names):
        for number in range(count):
            save(photograph(1000 * place + number), root / name / f"{number:02}.png")
    return root


def split(root: Path, **options: float) -> SubtaskImages:
    return split_for_subtask(open_images(root), ["cat", "dog"], **options)  # type: ignore[arg-type]


def files(images: ImageSet | None, root: Path) -> set[str]:
    assert images is not None
    return {Path(images.name(row)).relative_to(root).as_posix() for row in range(len(images))}


def all_files(parts: SubtaskImages, root: Path) -> set[str]:
    return files(parts.train, root) | files(parts.validation, root) | files(parts.test, root)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "empty (0 bytes)"),
    "cut off": (_cut, "cut off or damaged"),
    "text": (lambda path: path.write_text("hello"), "no image"),
    "web page": (lambda path: path.write_text("<!DOCTYPE html><p>404"), "no image but a web page"),
    "heic": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0"), "no image but HEIC"),
    "video": (lambda path: path.write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0"), "no image but a video"),
    "bomb": (lambda path: path.write_bytes(png(20_000, 20_000)), "more than 134 megapixels"),
    "float": (lambda path: Image.new("F", (40, 40)).save(path, "TIFF"), "pixels of a kind that is not read"),
    "one pixel": (lambda path: Image.new("RGB", (1, 1)).save(path), "smaller than 4 pixels"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_few_files_that_cannot_be_used_are_left_out_and_named(tmp_path: Path, kind: str) -> None:
    damage, reason = BROKEN[kind]
    broken = write_classes(tmp_path) / "cat" / "07.png"
    damage(broken)
    parts = split(tmp_path)
    assert [(each.path, each.class_name, each.reason) for each in parts.skipped] == [(str(broken), "cat", reason)]
    assert len(all_files(parts, tmp_path)) == 39
    assert "cat/07.png" not in all_files(parts, tmp_path)
    assert f"1 {reason}: 07.png" in parts.notes[0]
    assert parts.notes[1] == "Pictures that cannot be used, by class: cat 1 of 20."


@pytest.mark.parametrize("name", ["png as jpg", "sixteen bits", "cmyk", "palette", "animation"])
def test_unusual_pictures_are_used(tmp_path: Path, name: str) -> None:
    write_classes(tmp_path)
    picture = photograph(7)
    if name == "png as jpg":
        picture.save(tmp_path / "cat" / "x.jpg", "PNG")
    elif name == "sixteen bits":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(tmp_path / "cat" / "x.png")
    elif name == "cmyk":
        picture.convert("CMYK").save(tmp_path / "cat" / "x.jpg")
    elif name == "palette":
        picture.convert("P").save(tmp_path / "cat" / "x.png", transparency=3)
    else:
        picture.save(tmp_path / "cat" / "x.gif", save_all=True, append_images=[photograph(8)])
    assert split(tmp_path).skipped == ()


def test_more_than_the_limit_stops_with_counts_reasons_and_names(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for place in ("cat/00.png", "cat/01.png", "dog/05.png"):
        (tmp_path / place).write_bytes(b"")
    assert len(split(tmp_path).skipped) == 3
    with pytest.raises(
        UnusableImagesError, match=r"3 of 40 pictures cannot be used, a share of 0\.075, .* allows 0\.05"
    ) as caught:
        split(tmp_path, max_bad=0.05)
    assert "3 empty (0 bytes): 00.png, 01.png, 05.png" in str(caught.value)
    assert len(caught.value.skipped) == 3


def test_a_class_that_mostly_vanishes_stops_the_run_and_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path, 33, ("dog", "cat"))
    for number in range(30):
        (tmp_path / "cat" / f"{number:02}.png").rename(tmp_path / "cat" / f"IMG_{number:02}.HEIC")
    with pytest.raises(
        DataError, match=r"30 of the 33 pictures of class 'cat' cannot be used: 30 HEIC .*: IMG_00\.HEIC, "
    ):
        split(tmp_path)
    with pytest.raises(DataError, match="of class 'cat'"):
        split(tmp_path, max_bad=0.9)
    assert len(split(tmp_path, max_bad=1.0).skipped) == 30


def test_a_class_of_which_nothing_is_read_says_what_is_there(tmp_path: Path) -> None:
    write_classes(tmp_path, 3)
    for path in (tmp_path / "cat").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(
        DataError, match=r"hold none of class 'cat'; .* Not read: 3 HEIC .*: 00\.heic, 01\.heic, 02\.heic"
    ):
        split(tmp_path)


def test_what_is_broken_in_other_classes_does_not_count(tmp_path: Path) -> None:
    write_classes(tmp_path, names=("cat", "dog", "fox"))
    for path in (tmp_path / "fox").iterdir():
        path.write_bytes(b"")
    parts = split(tmp_path)
    assert parts.skipped == ()
    assert parts.notes == ("Folders that are no class of the subtask: fox.",)


def test_photographs_that_lie_by_day_below_no_class_get_a_hint(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", names=("cat", "dog"))
    for day in (0, 1):
        save(photograph(5000 + day), tmp_path / "train" / "more" / f"day{day}" / "0.png")
    assert split(tmp_path).notes[-1] == (
        "Folders that are no class of the subtask: more. Those of more lie in folders below it; if they show the "
        f"subtask's classes, --unlabelled {tmp_path / 'train' / 'more'} trains on them without labels."
    )


@pytest.mark.parametrize("copy", [shrunk, encoded_anew])
def test_training_images_whose_picture_is_in_test_are_removed(
    tmp_path: Path, copy: Callable[[Image.Image], Image.Image]
) -> None:
    write_classes(tmp_path / "train")
    for place, name in enumerate(("cat", "dog")):
        save(copy(photograph(1000 * place + 3)), tmp_path / "test" / name / "copy.jpg")
        save(photograph(1000 * place + 500), tmp_path / "test" / name / "own.png")
    parts = split(tmp_path)
    assert files(parts.test, tmp_path) == {
        f"test/{name}/{each}" for name in ("cat", "dog") for each in ("copy.jpg", "own.png")
    }
    kept = files(parts.train, tmp_path) | files(parts.validation, tmp_path)
    expected = {f"train/{name}/{number:02}.png" for name in ("cat", "dog") for number in range(20) if number != 3}
    assert kept == expected
    assert any("03.png and" in note and "copy.jpg" in note for note in parts.notes)


def test_copies_of_a_picture_are_held_out_together(tmp_path: Path) -> None:
    write_classes(tmp_path, 10)
    for number in range(10):
        save(shrunk(photograph(number)), tmp_path / "cat" / f"{number:02}-small.png")
        save(encoded_anew(photograph(number)), tmp_path / "cat" / f"{number:02}-again.png")
    parts = split(tmp_path)
    assert len(all_files(parts, tmp_path)) == 40, "no picture was removed"
    for images in (parts.train, parts.validation, parts.test):
        cats = [name for name in files(images, tmp_path) if name.startswith("cat/")]
        assert len(cats) == 3 * len({name[4:6] for name in cats})


def test_no_two_different_pictures_are_taken_for_one(tmp_path: Path) -> None:
    write_classes(tmp_path, 60)
    parts = split(tmp_path)
    assert parts.notes == ()
    assert len(all_files(parts, tmp_path)) == 120


def test_a_picture_under_two_labels_is_left_out_and_both_files_are_named(tmp_path: Path) -> None:
    write_classes(tmp_path)
    save(shrunk(photograph(4)), tmp_path / "dog" / "stray.png")
    parts = split(tmp_path)
    assert len(all_files(parts, tmp_path)) == 39
    (note,) = parts.notes
    assert note.startswith("2 images left out: the same picture stands under two labels, such as ")
    assert f"{tmp_path}/cat/04.png and {tmp_path}/dog/stray.png" in note


def test_a_class_half_of_which_is_another_is_refused(tmp_path: Path) -> None:
    write_classes(tmp_path)
    for number in range(10):
        (tmp_path / "dog" / f"c{number}.png").write_bytes((tmp_path / "cat" / f"{number:02}.png").read_bytes())
    with pytest.raises(
        DataError, match=r"10 of the \d\d images of class '(cat|dog)' stand under another label too, such as .*00"
    ):
        split(tmp_path)


@pytest.mark.parametrize(
    ("copies", "message"),
    [
        (0, r"Class 'dog' has 2 images; training, validation and test need at least 3, one each"),
        (10, r"Class 'dog' has 12 images, but only 2 different; training, validation and test need at least 3"),
    ],
)
def test_too_few_images_are_counted_as_the_user_sees_them(tmp_path: Path, copies: int, message: str) -> None:
    write_classes(tmp_path)
    for path in sorted((tmp_path / "dog").iterdir())[2:]:
        path.unlink()
    for number in range(copies):
        save(encoded_anew(photograph(1000 + number % 2)), tmp_path / "dog" / f"copy{number}.png")
    with pytest.raises(DataError, match=message):
        split(tmp_path)


def test_a_training_class_that_is_all_in_test_is_named(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", 5)
    write_classes(tmp_path / "test", 5)
    with pytest.raises(
        DataError, match=r"image of class 'cat' is left: the pictures of all \d stand in .* too, such as .*train"
    ):
        split(tmp_path)
