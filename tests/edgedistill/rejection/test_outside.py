"""Images of other classes: the right classes, evenly, and none that stands elsewhere."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgedistill.data.splits import split_for_subtask
from edgedistill.rejection.outside import OutsideImages, find_outside
from edgedistill_deploy.images.sets import ImageSet, ImageSplits
from edgedistill_deploy.images.sources import open_images

SPLITS = {"three": [0, 1, 2], "no validation": [0, 0, 2], "no test": [0, 0, 1], "one": [0, 0, 0]}


def digests(images: ImageSet | None) -> list[str]:
    return [] if images is None else [images.digest(index) for index in range(len(images))]


def write_source(path: Path, split: list[int], repeat: dict[int, int] | None = None) -> ImageSplits:
    """Classes a to e of 30 images each, a third in each of the three splits; `repeat` copies one row over another."""
    labels = np.repeat(np.arange(5), 30)
    pixels = np.random.default_rng(0).integers(0, 256, (150, 6, 6), dtype=np.uint8)
    for target, origin in (repeat or {}).items():
        pixels[target] = pixels[origin]
    parts = np.tile(np.repeat(split, 10), 5)
    np.savez(path, images=pixels, labels=labels, split=parts, class_names=np.array(list("abcde")))
    return open_images(f"npz:{path}")


def drawn(source: ImageSplits, teacher: str = "abcde", **options: int) -> OutsideImages:
    return find_outside(source, list(teacher), list("ab"), split_for_subtask(source, list("ab")), **options)


@pytest.mark.parametrize(
    ("kind", "counts"), [("three", (30, 30)), ("no validation", (60, 30)), ("no test", (30, 0)), ("one", None)]
)
def test_other_classes_come_from_the_splits_the_expert_is_judged_on(
    tmp_path: Path, kind: str, counts: tuple[int, int] | None
) -> None:
    source = write_source(tmp_path / "a.npz", SPLITS[kind])
    found = drawn(source)
    validation, test = digests(found.validation), digests(found.test)
    every = set(digests(source.train.with_classes(list("cde"))))
    if counts is None:
        assert len(validation) + len(test) == 90
        assert min(len(validation), len(test)) > 25
        assert {*validation, *test} == every
    else:
        assert (len(validation), len(test)) == counts
    assert not {*validation} & {*test}
    for images in (found.validation, found.test):
        assert images is None or {images.class_names[label] for label in images.labels} == set("cde")


def test_a_class_that_the_teacher_does_not_know_is_left_out(tmp_path: Path) -> None:
    found = drawn(write_source(tmp_path / "a.npz", SPLITS["three"]), teacher="abce")
    assert found.test is not None
    assert found.test.class_names == ("c", "e")


def test_without_other_classes_there_is_nothing(tmp_path: Path) -> None:
    found = drawn(write_source(tmp_path / "a.npz", SPLITS["three"]), teacher="ab")
    assert (found.validation, found.test) == (None, None)


def test_a_sample_is_even_over_the_classes_and_hangs_on_the_seed(tmp_path: Path) -> None:
    source = write_source(tmp_path / "a.npz", SPLITS["three"])
    first, again, other = (drawn(source, most=13, seed=seed).test for seed in (0, 0, 1))
    assert first is not None
    assert sorted(Counter(first.labels.tolist()).values()) == [4, 4, 5]
    assert digests(first) == digests(again) != digests(other)


def test_content_that_stands_in_the_subtask_or_in_test_is_left_out(tmp_path: Path) -> None:
    # Row 0 is class a, training; 70 and 80 are class c, validation and test; 111 is class d, test.
    source = write_source(tmp_path / "a.npz", SPLITS["three"], repeat={70: 80, 111: 0})
    found = drawn(source)
    assert [len(digests(each)) for each in (found.validation, found.test)] == [29, 29]
    subtask = split_for_subtask(source, list("ab"))
    assert not {*digests(found.test)} & {*digests(found.validation)}
    assert not {*digests(found.test), *digests(found.validation)} & {*digests(subtask.train)}
