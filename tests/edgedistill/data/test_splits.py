from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images


def write_npz(path: Path, per_class: list[int], seed: int = 0, split: list[int] | None = None) -> str:
    labels = np.repeat(np.arange(len(per_class)), per_class)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 6, 6), dtype=np.uint8)
    extra: dict[str, Any] = {} if split is None else {"split": np.array(split)}
    np.savez(path, images=images, labels=labels, class_names=np.array(list("abc")[: len(per_class)]), **extra)
    return f"npz:{path}"


def digests(images: ImageSet) -> set[str]:
    return {images.digest(index) for index in range(len(images))}


def shuffled_copy(source: Path, target: Path, seed: int) -> str:
    with np.load(source) as data:
        order = np.random.default_rng(seed).permutation(len(data["labels"]))
        np.savez(target, images=data["images"][order], labels=data["labels"][order], class_names=data["class_names"])
    return f"npz:{target}"


def all_of(split: SubtaskImages) -> list[ImageSet]:
    assert split.test is not None
    return [split.train, split.validation, split.test]


def test_one_split_becomes_three_without_overlap_stratified(tmp_path: Path) -> None:
    parts = all_of(split_for_subtask(open_images(write_npz(tmp_path / "a.npz", [100, 50, 25])), list("abc")))
    assert [len(part) for part in parts] == [112, 28, 35]
    assert Counter(parts[2].labels.tolist()) == {0: 20, 1: 10, 2: 5}
    assert Counter(parts[1].labels.tolist()) == {0: 16, 1: 8, 2: 4}
    every = [digests(part) for part in parts]
    assert not every[0] & every[1]
    assert not every[0] & every[2]
    assert not every[1] & every[2]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_images_changes_no_split(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.mktemp("order")
    plain = split_for_subtask(open_images(write_npz(folder / "a.npz", [30, 20])), list("ab"))
    mixed = split_for_subtask(open_images(shuffled_copy(folder / "a.npz", folder / "b.npz", seed)), list("ab"))
    assert [digests(part) for part in all_of(plain)] == [digests(part) for part in all_of(mixed)]


def test_the_seed_changes_the_split(tmp_path: Path) -> None:
    source = open_images(write_npz(tmp_path / "a.npz", [30, 20]))
    assert digests(split_for_subtask(source, list("ab"), seed=0).validation) != digests(
        split_for_subtask(source, list("ab"), seed=1).validation
    )


def test_given_splits_are_kept_and_validation_comes_out_of_training(tmp_path: Path) -> None:
    source = open_images(write_npz(tmp_path / "a.npz", [50, 50], split=([0] * 40 + [2] * 10) * 2))
    parts = split_for_subtask(source, list("ab"))
    assert [len(part) for part in all_of(parts)] == [64, 16, 20]


def test_an_image_that_stands_in_a_later_split_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", [20, 20], split=([0] * 10 + [1] * 5 + [2] * 5) * 2)
    with np.load(tmp_path / "a.npz") as data:
        arrays = dict(data)
    arrays["images"][0] = arrays["images"][16]  # a training image repeats a test image
    arrays["images"][11] = arrays["images"][17]  # a validation image repeats a test image
    arrays["images"][21] = arrays["images"][31]  # a training image repeats a validation image
    np.savez(tmp_path / "b.npz", **arrays)
    parts = split_for_subtask(open_images(f"npz:{tmp_path / 'b.npz'}"), list("ab"))
    assert [len(part) for part in all_of(parts)] == [18, 9, 10]
    validation, training = parts.notes
    assert validation.startswith("1 validation image left out: the same picture stands in test, such as b.npz image 11")
    assert training.startswith("2 training images left out: the same picture stands in validation or test, such as")


def test_labels_follow_the_subtasks_order(tmp_path: Path) -> None:
    parts = split_for_subtask(open_images(write_npz(tmp_path / "a.npz", [10, 20, 30])), list("cb"))
    counts = sum((Counter(part.labels.tolist()) for part in all_of(parts)), Counter())
    assert counts == {0: 30, 1: 20}


@pytest.mark.parametrize(
    ("per_class", "names", "message"),
    [
        ([10, 10], "ax", "The training images have no class 'x'. Known: a, b."),
        ([10, 1], "ab", "Class 'b' has 1 image; training, validation and test need at least 3, one each"),
        ([10, 2], "ab", "Class 'b' has 2 images; training, validation and test need at least 3, one each"),
        ([10, 0, 3], "ab", "hold none of class 'b'"),
    ],
)
def test_data_that_cannot_be_split_is_refused(tmp_path: Path, per_class: list[int], names: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_for_subtask(open_images(write_npz(tmp_path / "a.npz", per_class)), list(names))
