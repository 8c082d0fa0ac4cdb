"""The images of a group come from the folders of its name and of its members, and are counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgedistill.data.groups import count_images, gather_groups
from edgedistill.data.splits import split_for_subtask
from edgedistill.rejection.outside import find_outside
from edgedistill_deploy.classes.groups import ClassGroup
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSplits, merge_classes
from edgedistill_deploy.images.sources import open_images

COUNTS = {"cat": 4, "tabby": 5, "Tiger_Cat": 6, "zebra": 7, "holiday": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, count in COUNTS.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    (tmp_path / "tabby" / "0.heic").write_bytes(b"x")
    return tmp_path


CLASSES = ("cat=tabby|tiger cat|Persian cat", "zebra")


def test_folders_of_members_become_one_class_and_a_note_counts_them(folder: Path) -> None:
    source = open_images(folder)
    found = split_for_subtask(source, CLASSES)
    sets = [each for each in (found.train, found.validation, found.test) if each is not None]
    assert all(each.class_names == ("cat", "zebra") for each in sets)
    names = {Path(each.name(row)).parent.name: int(each.labels[row]) for each in sets for row in range(len(each))}
    assert names == {"cat": 0, "tabby": 0, "Tiger_Cat": 0, "zebra": 1}
    assert sum(len(each) for each in sets) == 22
    assert "The class 'cat' has the images of Tiger_Cat (6), cat (4), tabby (5)." in found.notes
    assert "Folders that are no class of the subtask: holiday." in found.notes
    assert [each.class_name for each in found.skipped] == ["cat"]


def test_an_image_keeps_its_split_when_its_class_is_written_as_a_group_of_one(folder: Path) -> None:
    plain = split_for_subtask(open_images(folder), ["tabby", "zebra"], seed=3)
    renamed = split_for_subtask(open_images(folder), ["striped=tabby", "zebra"], seed=3)
    for own, other in ((plain.train, renamed.train), (plain.validation, renamed.validation)):
        assert [own.digest(row) for row in range(len(own))] == [other.digest(row) for row in range(len(other))]
        assert own.labels.tolist() == other.labels.tolist()


def test_a_source_without_groups_is_returned_as_it_is(folder: Path) -> None:
    source = open_images(folder)
    assert gather_groups(source, ["tabby", "zebra"]) is source


def test_a_group_without_any_folder_is_told(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no class 'dog' and none of its 2 members \(beagle, pug\). Known: "):
        split_for_subtask(open_images(folder), ["dog=beagle|pug", "zebra"])


def test_far_more_of_something_else_than_of_any_class_is_told(folder: Path) -> None:
    rest = ClassGroup(name="something else", members=("tabby", "tiger cat", "zebra"))
    source = open_images(folder)
    notes = gather_groups(source, ["cat", rest]).notes
    assert any("'something else' has 18 images, and the largest other class 4" in note for note in notes)
    few = ClassGroup(name="something else", members=("tabby",))
    assert not any("largest other class" in note for note in gather_groups(source, ["cat", "zebra", few]).notes)


def test_images_outside_are_of_no_member_of_a_group(folder: Path) -> None:
    source = open_images(folder)
    images = split_for_subtask(source, ["cat=tabby", "zebra"])
    outside = find_outside(source, ["tabby", "tiger cat", "zebra"], ("cat=tabby", "zebra"), images)
    found = [each for each in (outside.validation, outside.test) if each is not None]
    assert {each.class_names for each in found} == {("Tiger_Cat",)}
    assert sum(len(each) for each in found) == 6


def test_labels_follow_their_classes_when_these_are_merged() -> None:
    labels = np.array([0, 1, 2, -1, 3, 1])
    names, merged = merge_classes(labels, ["a", "b", "a", "c"])
    assert names == ("a", "b", "c")
    assert merged.tolist() == [0, 1, 0, -1, 2, 1]
    assert merge_classes(labels, ["a", "b", "c", "d"])[1] is labels


def test_images_are_counted_over_all_splits(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=np.zeros((5, 4, 4), np.uint8),
        labels=np.array([0, 1, 1, 0, 1]),
        split=np.array([0, 0, 1, 2, 2]),
        class_names=np.array(["a", "b", "none"]),
    )
    source: ImageSplits = open_images(f"npz:{tmp_path / 'a.npz'}")
    assert count_images(source) == {"a": 2, "b": 3, "none": 0}
