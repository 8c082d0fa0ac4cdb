"""Which images are calibrated on: balanced, seeded, the same in any order, and never those that judge."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgedistill_calibration.dataset import (
    NEEDED_PER_CLASS,
    CalibrationSet,
    content_key,
    fair_shares,
    select_calibration,
)
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from reference.fitted_networks import CLASS_NAMES

PREPROCESS = Preprocess(size=(8, 8))


def images_of(counts: list[int], seed: int = 0) -> ArrayImages:
    """Distinct images, `counts[c]` of class c, in random order."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = random.integers(0, 256, (len(labels), 8, 8, 3), dtype=np.uint8)
    return image_set(pixels, labels)


def image_set(pixels: np.ndarray, labels: np.ndarray) -> ArrayImages:
    return ArrayImages(
        class_names=CLASS_NAMES[: labels.max() + 1],
        labels=labels.astype(np.int64),
        images=pixels,
        rows=np.arange(len(labels)),
    )


def digests_of(images: ImageSet) -> list[str]:
    return [images.digest(index) for index in range(len(images))]


def test_every_class_gives_as_many_images() -> None:
    chosen = select_calibration(images_of([100, 100, 100, 100]), 80, 0)
    assert chosen.per_class == dict.fromkeys(CLASS_NAMES, 20)
    assert np.bincount(chosen.images.labels).tolist() == [20, 20, 20, 20]


def test_a_rare_class_gives_what_it_has_less_a_fifth_and_the_others_fill_up() -> None:
    chosen = select_calibration(images_of([10, 200, 200]), 98, 0)
    assert list(chosen.per_class.values()) == [8, 45, 45]
    assert np.bincount(chosen.held_out.labels)[0] == 2


@pytest.mark.parametrize("seed", range(8))
def test_classes_are_mixed_so_that_an_average_over_time_sees_them_all(seed: int) -> None:
    labels = select_calibration(images_of([200, 200, 200, 200]), 512, seed).images.labels
    assert all(len(set(labels[start : start + 32])) == 4 for start in range(0, 512, 32))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(NEEDED_PER_CLASS, 60), min_size=1, max_size=4), st.integers(16, 200), st.integers(0, 5))
def test_calibrated_and_held_out_images_are_disjoint_and_no_class_is_absent(
    counts: list[int], count: int, seed: int
) -> None:
    images = images_of(counts)
    chosen = select_calibration(images, count, seed)
    taken, judged = set(digests_of(chosen.images)), set(digests_of(chosen.held_out))
    assert not taken & judged
    assert taken | judged <= set(digests_of(images))
    assert len(taken) == sum(chosen.per_class.values()) <= count
    assert set(chosen.held_out.labels) == set(range(len(counts))) == set(chosen.images.labels)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 150))
def test_shares_are_as_even_as_what_is_there_allows(available: list[int], total: int) -> None:
    shares = fair_shares(available, total)
    assert sum(shares) == min(total, sum(available))
    assert all(share <= limit for share, limit in zip(shares, available, strict=True))
    short = [share for share, limit in zip(shares, available, strict=True) if share < limit]
    # A class that could give more has no less than any other, but for the remainder of the division.
    assert not short or max(shares) - min(short) <= 1


def folder_of(root: Path, names: list[str], pixels: np.ndarray, labels: np.ndarray) -> ImageSet:
    for name, image, label in zip(names, pixels, labels, strict=True):
        path = root / CLASS_NAMES[label] / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return open_images(root).train


def test_neither_file_names_nor_their_order_change_the_set(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    names = [f"{index:03}" for index in range(60)]
    one = folder_of(tmp_path / "one", names, pixels, labels)
    two = folder_of(tmp_path / "two", names[::-1], pixels, labels)
    first, second = select_calibration(one, 30, 7), select_calibration(two, 30, 7)
    assert digests_of(first.images) == digests_of(second.images)
    assert digests_of(first.held_out) == digests_of(second.held_out)
    assert first.key(PREPROCESS) == second.key(PREPROCESS)


def test_the_key_changes_with_any_image_with_preprocessing_and_with_the_seed() -> None:
    random = np.random.default_rng(1)
    labels = np.arange(40) % 2
    pixels = random.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    chosen = select_calibration(image_set(pixels, labels), 32, 0)
    keys = {chosen.key(PREPROCESS), chosen.key(Preprocess(size=(8, 9)))}
    keys.add(select_calibration(image_set(pixels, labels), 32, 1).key(PREPROCESS))
    for index in range(len(chosen.images)):
        assert isinstance(chosen.images, ArrayImages)
        changed = pixels.copy()
        changed[chosen.images.rows[index], 0, 0, 0] ^= 1
        keys.add(select_calibration(image_set(changed, labels), 32, 0).key(PREPROCESS))
    assert len(keys) == 3 + 32


def test_the_key_does_not_change_with_order() -> None:
    images = images_of([10, 10])
    assert content_key(images, PREPROCESS) == content_key(images.select(range(19, -1, -1)), PREPROCESS)


def test_an_image_that_is_there_twice_counts_once() -> None:
    labels = np.repeat([0, 1], 20)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    pixels[10:20] = pixels[:10]
    chosen = select_calibration(image_set(pixels, labels), 40, 0)
    assert chosen.per_class == {"disc": 8, "square": 16}
    assert len(set(digests_of(chosen.images))) == len(chosen.images)


def test_excluded_images_are_left_out_and_it_is_said() -> None:
    images = images_of([60, 60])
    judged = digests_of(images)[:30]
    chosen = select_calibration(images, 100, 0, exclude=judged)
    assert not set(judged) & set(digests_of(chosen.images) + digests_of(chosen.held_out))
    assert any(note.startswith("The student is judged on 30 of the training images") for note in chosen.notes)


def notes_of(counts: list[int], count: int) -> CalibrationSet:
    return select_calibration(images_of(counts), count, 0)


def test_few_images_are_noted_and_enough_are_not() -> None:
    assert notes_of([150, 150], 100).notes == ()
    assert notes_of([150, 150], 99).notes == (
        "Ranges were measured on 99 images; with fewer than 100 they depend on which images these are.",
    )
    assert notes_of([100, 100], 400).notes == (
        "400 calibration images were asked for, and the training images allow 160.",
    )


def test_a_class_with_too_few_images_is_refused_by_name() -> None:
    message = "at least 5 different training images of every class, and 'square' has 4, 'cross' has 1; add"
    with pytest.raises(DataError, match=message):
        select_calibration(images_of([50, 4, 50, 1]), 40, 0)


def test_a_class_that_only_judges_is_refused_and_why() -> None:
    images = images_of([20, 20])
    judged = [images.digest(index) for index in range(len(images)) if images.labels[index] == 1]
    with pytest.raises(DataError, match="'square' has 0, without the 20 that the student is judged on"):
        select_calibration(images, 20, 0, exclude=judged)


def test_fewer_images_than_the_classes_need_are_refused() -> None:
    with pytest.raises(UsageError, match="images is 15, and 4 classes need at least 16 calibration images, 4 each"):
        select_calibration(images_of([50, 50, 50, 50]), 15, 0)


def test_more_images_than_help_are_used_and_noted() -> None:
    images = images_of([700, 700])
    assert select_calibration(images, 1024, 0).notes == ()
    chosen = select_calibration(images, 1026, 0)
    assert len(chosen.images) == 1026
    assert chosen.notes == ("Ranges were measured on 1026 images; beyond 1024 they hardly move, and it takes longer.",)


def test_images_without_labels_are_drawn_like_those_of_one_more_class() -> None:
    images = images_of([40, 40])
    labels = images.labels.copy()
    labels[np.flatnonzero(labels == 1)[:20]] = -1
    chosen = select_calibration(replace(images, labels=labels), 30, 0, held_out=9)
    assert chosen.per_class == {CLASS_NAMES[0]: 10, CLASS_NAMES[1]: 10, "(no label)": 10}
    assert np.bincount(chosen.images.labels + 1).tolist() == [10, 10, 10]
    assert np.bincount(chosen.held_out.labels + 1).tolist() == [3, 3, 3]


def test_images_without_any_label_calibrate_too() -> None:
    images = images_of([20, 20])
    bare = replace(images, labels=np.full(40, -1))
    chosen = select_calibration(bare, 16, 0)
    assert chosen.per_class == {CLASS_NAMES[0]: 0, CLASS_NAMES[1]: 0, "(no label)": 16}
    assert len(chosen.images) == 16
    assert len(chosen.held_out) == 24
    assert not set(digests_of(chosen.images)) & set(digests_of(chosen.held_out))


def test_too_few_images_without_labels_are_told() -> None:
    bare = replace(images_of([4, 4]), labels=np.full(8, -1))
    with pytest.raises(
        DataError, match=r"at least 5 different training images for each of the 2 classes, and there are"
    ):
        select_calibration(bare, 16, 0)


def test_enough_images_without_labels_make_up_for_a_class_with_few() -> None:
    images = images_of([30, 30])
    labels = images.labels.copy()
    labels[np.flatnonzero(labels == 1)[2:]] = -1
    chosen = select_calibration(replace(images, labels=labels), 30, 0)
    assert list(chosen.per_class.values())[1] == 1
    assert len(chosen.images) == 30
