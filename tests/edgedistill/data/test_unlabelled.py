"""Images without labels: what they are used for, and that they never lie in two splits or count as of a class."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill.data.splits import SubtaskImages, images_key, split_for_subtask
from edgedistill.data.unlabelled import (
    describe_unlabelled,
    fill_in,
    find_purposes,
    join,
    judged_by,
    labelled_rows,
    open_both,
    open_unlabelled,
    sources_of,
    unlabelled_count,
    without_labels,
)
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.arrays import build_array_images
from edgedistill_deploy.images.checks.limits import UnusableImagesError
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet, ImageSplits
from edgedistill_deploy.images.sources import open_images
from reference.image_files import write_folder
from reference.image_sources import write_csv, write_pictures, write_shard

CLASSES = ["a", "b"]


def array_set(labels: Sequence[int], seed: int = 0) -> ImageSet:
    """Different images with these labels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 6, 6), dtype=np.uint8)
    return build_array_images(tuple(CLASSES), np.array(labels, dtype=np.int64), pixels, f"set {seed}")


def digests(images: ImageSet | None) -> list[str]:
    return [] if images is None else [images.digest(row) for row in range(len(images))]


def counted(split: SubtaskImages) -> dict[str, tuple[int, int]]:
    """Return {split: (images with a label, images without)}."""
    sets = {"train": split.train, "validation": split.validation, "test": split.test}
    return {name: (len(labelled_rows(each)), unlabelled_count(each)) for name, each in sets.items() if each is not None}


LABELLED = [0, 1] * 10
LOOSE = [NO_LABEL] * 25


@pytest.mark.parametrize(
    ("train", "validation", "test", "more", "expected"),
    [
        (LOOSE, None, None, 0, {"train": (0, 16), "validation": (0, 4), "test": (0, 5)}),
        (LOOSE, None, LABELLED, 0, {"train": (0, 20), "validation": (0, 5), "test": (20, 0)}),
        (LOOSE, LABELLED, None, 0, {"train": (0, 25), "validation": (20, 0)}),
        (LOOSE, LOOSE, LOOSE, 0, {"train": (0, 25), "validation": (0, 25), "test": (0, 25)}),
        (LOOSE, LOOSE, LABELLED, 0, {"train": (0, 25), "validation": (0, 25), "test": (20, 0)}),
        (LOOSE, LABELLED, LOOSE, 0, {"train": (0, 25), "validation": (20, 0)}),
        (LOOSE, None, None, 7, {"train": (0, 23), "validation": (0, 4), "test": (0, 5)}),
        (LABELLED, None, None, 25, {"train": (12, 25), "validation": (4, 0), "test": (4, 0)}),
        ([*LABELLED, *LOOSE], None, None, 5, {"train": (12, 30), "validation": (4, 0), "test": (4, 0)}),
        (LABELLED, LABELLED, LOOSE, 0, {"train": (20, 0), "validation": (20, 0)}),
        (LABELLED, LOOSE, None, 0, {"train": (12, 0), "validation": (4, 0), "test": (4, 0)}),
        ([], None, LABELLED, 10, {"train": (0, 8), "validation": (0, 2), "test": (20, 0)}),
    ],
)
def test_what_images_with_and_without_labels_are_used_for(
    train: list[int],
    validation: list[int] | None,
    test: list[int] | None,
    more: int,
    expected: dict[str, tuple[int, int]],
) -> None:
    sets = [
        None if labels is None else array_set(labels, seed) for seed, labels in enumerate((train, validation, test))
    ]
    assert sets[0] is not None
    source = ImageSplits(class_names=tuple(CLASSES), train=sets[0], validation=sets[1], test=sets[2])
    extra = ImageSplits(class_names=(), train=array_set([1] * more, 9)) if more else None
    found = split_for_subtask(source, CLASSES, unlabelled=extra)
    assert counted(found) == expected
    assert all(each.class_names == tuple(CLASSES) for each in (found.train, found.validation))


def test_held_out_images_without_a_label_beside_labelled_ones_are_named() -> None:
    source = ImageSplits(class_names=tuple(CLASSES), train=array_set(LABELLED), test=array_set([0, 1, -1, -1], 1))
    found = split_for_subtask(source, CLASSES)
    assert counted(found)["test"] == (2, 0)
    assert any("2 test images without a label are not used, because other images have labels" in each
               for each in found.notes)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 12), min_size=3, max_size=3),
    copies=st.integers(0, 6),
    seed=st.integers(0, 50),
    order=st.integers(0, 50),
)
def test_no_picture_is_in_two_splits_whatever_has_labels(counts: list[int], copies: int, seed: int, order: int) -> None:
    labels = np.repeat([0, 1, NO_LABEL], counts)
    base = array_set(labels.tolist(), seed)
    shuffled = np.random.default_rng(order).permutation(len(labels))
    extra = join([array_set([0] * 9, seed + 1000), base.select(range(min(copies, len(base))))], CLASSES)

    def split(images: ImageSet) -> SubtaskImages:
        unlabelled = ImageSplits(class_names=(), train=extra)
        return split_for_subtask(ImageSplits(class_names=tuple(CLASSES), train=images), CLASSES, seed=seed,
                                 unlabelled=unlabelled)  # fmt: skip

    try:
        found = split(base)
    except DataError:
        with pytest.raises(DataError):
            split(base.select(shuffled))
        assert any(0 < each < 3 for each in counts) or not all(counts[:2])
        return
    sets = [digests(each) for each in (found.train, found.validation, found.test)]
    every = [digest for each in sets for digest in each]
    assert len(set(every)) == len(every)
    again = split(base.select(shuffled))
    assert [set(digests(each)) for each in (again.train, again.validation, again.test)] == [set(each) for each in sets]
    known = dict(zip(digests(base), labels.tolist(), strict=True))
    for images in (found.train, found.validation, found.test):
        assert images is not None
        for digest, label in zip(digests(images), images.labels.tolist(), strict=True):
            assert label == known.get(digest, NO_LABEL), "an image keeps the label that it has, and gets no other"
    for images in (found.validation, found.test):
        assert images is not None
        assert unlabelled_count(images) in (0, len(images))


def test_the_seed_decides_which_images_without_labels_are_held_out() -> None:
    source = ImageSplits(class_names=(), train=array_set(LOOSE))
    first, second = (split_for_subtask(source, CLASSES, seed=seed) for seed in (0, 1))
    assert set(digests(first.validation)) != set(digests(second.validation))


def test_copies_of_labelled_images_are_left_out_of_those_without_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(3)

    def save(path: Path, side: int = 128) -> Image.Image:
        path.parent.mkdir(parents=True, exist_ok=True)
        rough = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        image = rough.resize((side, side), Image.Resampling.BICUBIC)
        image.save(path)
        return image

    kept = {}
    for name in CLASSES:
        for split, count in (("train", 4), ("val", 2), ("test", 2)):
            for number in range(count):
                kept[split, name, number] = save(tmp_path / "data" / split / name / f"{number}.png")
    for number in range(5):
        save(tmp_path / "more" / "deep" / f"new{number}.png")
    kept["test", "a", 0].resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / "more" / "shrunk.jpg", quality=90)
    kept["train", "b", 1].save(tmp_path / "more" / "again.bmp")
    source, unlabelled = open_both(str(tmp_path / "data"), str(tmp_path / "more"), CLASSES)
    found = split_for_subtask(source, CLASSES, unlabelled=unlabelled)
    assert counted(found) == {"train": (8, 5), "validation": (4, 0), "test": (4, 0)}
    [note] = [each for each in found.notes if "left out" in each]
    assert note.startswith("2 images without a label left out: the same picture is in a split, such as ")


def test_files_without_a_label_that_cannot_be_used_are_listed_under_no_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {".": 20})
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "photo.CR2").write_bytes(b"x")
    found = split_for_subtask(open_images(tmp_path), CLASSES)
    assert {(Path(each.path).name, each.class_name) for each in found.skipped} == {
        ("broken.png", ""),
        ("photo.CR2", ""),
    }
    assert any("Pictures that cannot be used, by class: without a label 2 of 22." in each for each in found.notes)
    with pytest.raises(UnusableImagesError, match=r"2 of 22 pictures cannot be used.*--max-bad allows 0\.05"):
        split_for_subtask(open_images(tmp_path), CLASSES, max_bad=0.05)
    for name in ("b", "c"):
        for number in range(15):
            (tmp_path / f"{name}{number}.jpg").write_bytes(b"")
    with pytest.raises(UnusableImagesError, match=r"32 of the 52 pictures without a label cannot be used"):
        split_for_subtask(open_images(tmp_path), CLASSES)


def test_too_few_images_without_labels_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, {".": 2})
    with pytest.raises(DataError, match=r"2 images have no label; training, validation and test need at least 3"):
        split_for_subtask(open_images(tmp_path), CLASSES)


def test_training_images_that_are_all_held_out_too_are_told(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": 3, "test": 0})
    for path in (tmp_path / "train").iterdir():
        (tmp_path / "test" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(DataError, match=r"No validation image is left: the pictures of all 1 stand in test too"):
        split_for_subtask(open_images(tmp_path), CLASSES)


def test_labels_of_an_unlabelled_source_do_not_matter() -> None:
    extra = open_unlabelled("embedded:digits")
    assert extra.class_names == ()
    assert unlabelled_count(extra.train) == len(extra.train) == 8620
    assert extra.notes == ("Of embedded:digits, 5840 validation and test images are not used for training.",)


def write_without_labels(kind: str, folder: Path) -> tuple[str, list[Path]]:
    """Write pictures as a source of a kind, none with a label; return its name and the pictures."""
    files = write_pictures(folder / "pictures", count=3)
    if kind == "table":
        path = write_csv(folder / "list.csv", ["path"], [[file] for file in files])
        return f"table:{path}", files
    if kind == "wds":
        samples = [(f"{number:06}", {"png": file.read_bytes()}) for number, file in enumerate(files)]
        return f"wds:{write_shard(folder / 'shards' / '0.tar', samples)}", files
    arrow: Any = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"image": [file.read_bytes() for file in files]}), folder / "images.parquet")
    return f"parquet:{folder / 'images.parquet'}", files


@pytest.mark.parametrize("kind", ["table", "wds", "parquet"])
def test_tables_shards_and_parquet_files_need_no_labels_there(tmp_path: Path, kind: str) -> None:
    name, files = write_without_labels(kind, tmp_path)
    extra = open_unlabelled(name).train
    assert unlabelled_count(extra) == len(extra) == 6
    assert digests(extra) == [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    with pytest.raises((DataError, UsageError)):  # where labels matter, they are still asked for
        open_images(name)


def test_of_an_unlabelled_folder_every_image_counts(tmp_path: Path) -> None:
    write_folder(tmp_path, {".": 1, "2021/summer": 2, "train/a": 3, "test/a": 1})
    assert len(open_unlabelled(str(tmp_path)).train) == 7


@pytest.mark.parametrize("given", [".", "a", "data", "data/a", "loose"])
def test_a_folder_that_is_given_twice_is_refused(tmp_path: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "data", {"a": 2, "b": 2, "rest": 2})
    write_folder(tmp_path, {"loose": 3})
    (tmp_path / "a").symlink_to(tmp_path / "data" / "a")
    monkeypatch.chdir(tmp_path)
    source = "loose" if given == "loose" else "data"
    with pytest.raises(UsageError, match=rf"--unlabelled {given} holds images that --data reads too, such as those in"):
        open_both(source, given, CLASSES)


def test_a_folder_beside_the_classes_may_be_the_unlabelled_one(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 4, "b": 4, "rest": 3})
    source, unlabelled = open_both(str(tmp_path), str(tmp_path / "rest"), CLASSES)
    assert counted(split_for_subtask(source, CLASSES, unlabelled=unlabelled))["train"] == (4, 3)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ("nowhere", UsageError, "There are no images at .*nowhere"),
        ("empty", DataError, "empty and its folders hold no"),
    ],
)
def test_a_folder_that_gives_nothing_is_refused(
    tmp_path: Path, given: str, kind: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(kind, match=message):
        open_unlabelled(str(tmp_path / given))


def test_folders_of_other_classes_say_how_they_can_be_used(tmp_path: Path) -> None:
    write_folder(tmp_path, {"2021": 4, "2022": 4})
    with pytest.raises(DataError, match=r"no class 'a'.* can be trained on without labels: --unlabelled FOLDER\."):
        split_for_subtask(open_images(tmp_path), CLASSES)


def test_joined_images_are_those_of_their_sets() -> None:
    one, other = array_set([0, 1, 1], 1), array_set([1, 0], 2)
    joined = join([one, without_labels(other, CLASSES)], CLASSES)
    assert joined.labels.tolist() == [0, 1, 1, NO_LABEL, NO_LABEL]
    assert digests(joined) == digests(one) + digests(other)
    picked = joined.select([4, 0, 3])
    assert (digests(picked), picked.labels.tolist()) == (
        [other.digest(1), one.digest(0), other.digest(0)], [NO_LABEL, 0, NO_LABEL],
    )  # fmt: skip
    assert picked.name(0) == other.name(1)
    assert np.array_equal(np.asarray(picked.read(1)), np.asarray(one.read(0)))
    assert [digests(each) for each in sources_of(picked)] == [[one.digest(0)], [other.digest(1), other.digest(0)]]
    assert digests(joined.with_classes(["b"])) == [one.digest(1), one.digest(2)], "what has no label is of no class"
    assert joined.rename_classes(["x", "y"]).class_names == ("x", "y")
    assert images_key(joined) != images_key(join([one, other], CLASSES)), "a label counts in the fingerprint of a run"


def test_the_teacher_stands_in_where_labels_are_missing_and_nowhere_else() -> None:
    assert fill_in(np.array([2, NO_LABEL, 0]), np.array([1, 1, 1])).tolist() == [2, 1, 0]
    assert (judged_by(array_set([0, 1])), judged_by(array_set([-1, -1]))) == ("labels", "teacher")
    assert [describe_unlabelled(array_set(each)) for each in ([0, 1], [0, -1], [-1, -1])] == [
        "", " (1 without a label)", " (all without a label)",
    ]  # fmt: skip


def test_purposes_of_labelled_sets_are_the_sets_themselves() -> None:
    source = ImageSplits(class_names=tuple(CLASSES), train=array_set(LABELLED), test=array_set([0, 1], 1))
    purposes = find_purposes(source, None, CLASSES)
    assert purposes.sets["training"] is source.train
    assert len(purposes.beside) == 0
