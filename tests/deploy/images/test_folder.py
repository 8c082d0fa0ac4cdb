import hashlib
import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import batches
from edgedistill_deploy.images.sources import open_images
from reference.image_files import write_folder


def _paths(images: object, root: Path) -> list[str]:
    assert isinstance(images, EncodedImages)
    return [Path(images.name(row)).relative_to(root).as_posix() for row in range(len(images))]


def test_class_folders_are_labelled_in_sorted_order(tmp_path: Path) -> None:
    splits = open_images(write_folder(tmp_path, {"zebra": 2, "ant": 1, "Cat": 1}))
    assert splits.class_names == ("Cat", "ant", "zebra")
    assert splits.train.labels.tolist() == [0, 1, 2, 2]
    assert _paths(splits.train, tmp_path) == ["Cat/00.png", "ant/00.png", "zebra/00.png", "zebra/01.png"]
    assert (splits.validation, splits.test) == (None, None)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val"])
def test_split_folders(tmp_path: Path, validation: str) -> None:
    write_folder(tmp_path, {"train/a": 3, "train/b": 2, f"{validation}/a": 1, "test/b": 2})
    splits = open_images(str(tmp_path))
    assert splits.class_names == ("a", "b")
    assert splits.validation is not None
    assert splits.test is not None
    sets = (splits.train, splits.validation, splits.test)
    assert [each.labels.tolist() for each in sets] == [[0, 0, 0, 1, 1], [0], [1, 1]]
    assert all(each.class_names == ("a", "b") for each in sets)


def test_a_test_split_alone_leaves_training_empty(tmp_path: Path) -> None:
    splits = open_images(write_folder(tmp_path, {"test/a": 1, "test/b": 1}))
    assert (len(splits.train), splits.validation) == (0, None)
    assert splits.test is not None
    assert splits.train.class_names == splits.test.class_names == ("a", "b")


def test_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    splits = open_images(write_folder(tmp_path, {"train": 2, "bus": 1, "test": 1}))
    assert splits.class_names == ("bus", "test", "train")
    assert len(splits.train) == 4


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    splits = open_images(write_folder(tmp_path, {"a/morning": 1, "a/evening/late": 1, "b": 1}))
    assert _paths(splits.train, tmp_path) == ["a/evening/late/00.png", "a/morning/00.png", "b/00.png"]


def test_names_are_composed_however_the_file_system_stores_them(tmp_path: Path) -> None:
    stored, typed = "cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"
    train = open_images(write_folder(tmp_path, {stored: 2, "the": 1})).train
    assert train.class_names == (typed, "the")
    assert len(train.with_classes([typed])) == len(train.with_classes([stored])) == 2
    assert train.with_classes([stored]).class_names == (stored,), "the caller's spelling is kept"


def test_two_spellings_of_a_name_are_one_class(tmp_path: Path) -> None:
    spellings = {"e\N{COMBINING ACUTE ACCENT}": 2, "\N{LATIN SMALL LETTER E WITH ACUTE}": 1}
    write_folder(tmp_path, spellings)
    if len(list(tmp_path.iterdir())) == 2:  # some file systems take them for one name themselves
        assert open_images(tmp_path).train.labels.tolist() == [0, 0, 0]


def test_other_files_and_hidden_ones_are_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1, ".cache": 3, "__MACOSX": 1, "a/.thumbs": 2})
    for name in ("README.txt", ".DS_Store", "a/README.txt", "a/.DS_Store", "b/Thumbs.db", "a/._00.png"):
        (tmp_path / name).write_text("not an image")
    splits = open_images(tmp_path)
    assert _paths(splits.train, tmp_path) == ["a/00.png", "b/00.png"]


def test_suffixes_are_read_in_any_case(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    (tmp_path / "a" / "00.png").rename(tmp_path / "a" / "X.PNG")
    assert open_images(tmp_path).train.name(0).endswith("X.PNG")


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"cats": 2})
    write_folder(tmp_path / "data", {"dog": 1})
    (tmp_path / "data" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "elsewhere" / "cats" / "circle").symlink_to(tmp_path / "data" / "cat")
    assert open_images(tmp_path / "data").train.labels.tolist() == [0, 0, 1]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"a": 5, "b": 5})
    wanted = _paths(open_images(tmp_path).train, tmp_path)
    walk = os.walk

    def backwards(top: Path, followlinks: bool) -> Iterator[tuple[str, list[str], list[str]]]:
        for parent, folders, files in walk(str(top), followlinks=followlinks):
            yield parent, folders, files[::-1]

    monkeypatch.setattr(os, "walk", backwards)
    assert _paths(open_images(tmp_path).train, tmp_path) == wanted == sorted(wanted)


def test_read_name_and_digest_are_those_of_the_file(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 2, "b": 1})).train
    path = tmp_path / "a" / "01.png"
    assert images.name(1) == str(path)
    assert images.digest(1) == hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as file:
        np.testing.assert_array_equal(np.asarray(images.read(1)), np.asarray(file))


def test_digests_are_computed_once_for_all_selections(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 2, "b": 1})).train
    before = images.digest(2)
    (tmp_path / "b" / "00.png").write_bytes(b"other")
    assert images.select([2]).digest(0) == images.with_classes(["b"]).digest(0) == before


def test_select_takes_positions_masks_and_nothing(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 2, "b": 2})).train
    assert images.select([3, 0]).labels.tolist() == [1, 0]
    assert images.select(np.array([3, 0])).name(0) == images.name(3)
    assert images.select(images.labels == 1).labels.tolist() == [1, 1]
    assert len(images.select([])) == 0


def test_with_classes_keeps_and_renumbers(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 1, "b": 2, "c": 1})).train.with_classes(["c", "b"])
    assert images.class_names == ("c", "b")
    assert [Path(images.name(row)).parent.name for row in range(3)] == ["b", "b", "c"]
    assert images.labels.tolist() == [1, 1, 0]


def test_wrong_classes_are_refused(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"sandal": 1, "sneaker": 1})).train
    with pytest.raises(UsageError, match=r"The images have no class 'sneakr'. Did you mean sneaker\?"):
        images.with_classes(["sandal", "sneakr"])
    with pytest.raises(UsageError, match="The class 'sandal' is named twice"):
        images.with_classes(["sandal", "sandal"])
    with pytest.raises(UsageError, match="give a list of at least one class name"):
        images.with_classes([])
    with pytest.raises(UsageError, match="The classes are 'sandal'; give a list"):
        images.with_classes("sandal")


def test_labels_cannot_be_written_to(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 1})).train
    with pytest.raises(ValueError, match="read-only"):
        images.labels[0] = 1


def test_a_set_travels_to_worker_processes(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 1, "b": 1})).train
    copy = pickle.loads(pickle.dumps(images))
    assert copy.digest(1) == images.digest(1)


def test_batches_are_the_prepared_images_in_order(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 3, "b": 2})).train
    preprocess = Preprocess(size=(4, 4))
    given = list(batches(images, preprocess, 2))
    assert [len(batch) for batch in given] == [2, 2, 1]
    for row, pixels in enumerate(np.concatenate(given)):
        np.testing.assert_array_equal(pixels, preprocess.apply(images.read(row)))


def test_batches_read_only_what_is_asked_for(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 4})).train
    (tmp_path / "a" / "03.png").write_bytes(b"broken")
    stream = batches(images, Preprocess(size=(4, 4)), 2)
    assert len(next(stream)) == 2
    with pytest.raises(DataError, match=r"03\.png cannot be read as an image"):
        next(stream)


def test_batch_size_is_checked_at_once(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 1})).train
    with pytest.raises(UsageError, match="batch_size is 0; it must be 1 or more"):
        batches(images, Preprocess(size=(4, 4)), 0)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    images = open_images(write_folder(tmp_path, {"a": 1})).train
    (tmp_path / "a" / "00.png").unlink()
    with pytest.raises(DataError, match=r"a/00\.png cannot be read: No such file"):
        images.digest(0)


def test_a_folder_without_images_is_no_class_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 0})
    (tmp_path / "b" / "notes.txt").write_text("x")
    splits = open_images(tmp_path)
    assert splits.class_names == ("a",)
    assert splits.empty == ("b",)
    assert splits.notes == ("Folders without images passed over: b.",)


def test_a_class_may_be_empty_in_one_split(tmp_path: Path) -> None:
    splits = open_images(write_folder(tmp_path, {"train/a": 1, "train/b": 1, "val/a": 1, "val/b": 0}))
    assert splits.validation is not None
    assert splits.validation.labels.tolist() == [0]


def test_a_split_without_any_images_does_not_count(tmp_path: Path) -> None:
    assert open_images(write_folder(tmp_path, {"train/a": 1, "val/a": 0})).validation is None


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(DataError, match=r"its folders hold no images \(avif.*\)\. Files there: notes\.txt\."):
        open_images(tmp_path)


def test_class_folders_with_nothing_readable_say_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for number in range(7):
        (tmp_path / "a" / f"{number}.heic").touch()
    message = r"hold no images \(avif, .*\)\. Files there: 0\.heic, 1\.heic, 2\.heic, 3\.heic, 4\.heic and 2 more\."
    with pytest.raises(DataError, match=message):
        open_images(tmp_path)


@pytest.mark.parametrize(("name", "source"), [("shard-000.tar", "wds:{}"), ("train.parquet", "parquet:{}")])
def test_a_folder_of_files_that_hold_images_says_how_to_name_it(tmp_path: Path, name: str, source: str) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / name).touch()
    named = source.format(tmp_path / "train")
    with pytest.raises(DataError, match=re.escape(f"Images inside such files are read from {named}.")):
        open_images(tmp_path)


def test_empty_class_folders_hold_no_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"hold no images \(avif.*\)\.$"):
        open_images(tmp_path)


def test_splits_beside_classes_are_ambiguous(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/a": 1, "b": 1})
    with pytest.raises(DataError, match=r"holds split folders \(train\) beside a folder of images \(b\); move it"):
        open_images(tmp_path)


def test_folders_without_images_beside_splits_are_passed_over(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/a": 1})
    (tmp_path / "annotations").mkdir()
    assert len(open_images(tmp_path).train) == 1


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"val/a": 1, "valid/a": 1})
    with pytest.raises(DataError, match="two folders for the validation split; keep one"):
        open_images(tmp_path)


def test_a_missing_path_names_its_nearest_siblings(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    with pytest.raises(UsageError, match=r"no images at .*flowrs: it does not exist. Did you mean flowers\?"):
        open_images(tmp_path / "flowrs")
    for path in (r"C:\Users\me\photos", "d:/photos"):
        with pytest.raises(UsageError, match=r"photos, a path of Windows\. Name the folder as this machine sees it"):
            open_images(path)
    with pytest.raises(UsageError, match=r"it does not exist\.$"):
        open_images(tmp_path / "no" / "such" / "folder")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.npz").touch()
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match=r"data\.npz is a file; name npz:.*data\.npz\."):
        open_images(tmp_path / "data.npz")
    with pytest.raises(UsageError, match=r"photo\.jpg is a file; name a folder with a folder of images for each"):
        open_images(tmp_path / "photo.jpg")


def test_an_unknown_kind_of_source_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"There is no image source 'video:' here; name a folder, npz:FILE, table:FILE"
    ):
        open_images("video:FILE")


def test_a_home_folder_may_be_abbreviated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "pictures", {"a": 1})
    assert len(open_images("~/pictures").train) == 1


def test_a_path_too_long_for_the_system_is_refused(tmp_path: Path) -> None:
    for source in (f"npz:{tmp_path}/{'x' * 5000}", str(tmp_path / ("x" * 5000))):
        with pytest.raises((DataError, UsageError), match=r"cannot be read: File name too long|does not exist"):
            open_images(source)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        open_images(tmp_path)
