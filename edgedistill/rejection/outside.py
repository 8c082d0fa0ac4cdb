"""Images of the teacher's other classes, for which an expert is not made."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.splits import SubtaskImages
from edgedistill.subtasks.rest import find_other_folders
from edgedistill_deploy.classes.groups import WantedClass
from edgedistill_deploy.images.sets import ImageSet, ImageSplits

MOST_IMAGES = 2000  # of other classes, in each split


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideImages:
    """Validation and test images of classes outside the subtask; None where the source has none.

    Their labels are positions among the other classes.
    """

    validation: ImageSet | None
    test: ImageSet | None


def find_outside(
    source: ImageSplits,
    teacher_classes: Sequence[str],
    subtask_classes: Sequence[WantedClass],
    images: SubtaskImages,
    *,
    seed: int = 0,
    most: int = MOST_IMAGES,
) -> OutsideImages:
    """Draw up to `most` images a split of the teacher's other classes, as evenly as possible over the classes.

    They come from the source's own splits. Without a validation split, validation images come from the training images
    of these classes, which train no expert. With neither split, both are halves of these training images. Copies of the
    subtask's images are left out, and validation images that are also test images. The seed decides the sample.
    """
    names = _other_classes(source.class_names, teacher_classes, subtask_classes)
    if not names:
        return OutsideImages(validation=None, test=None)
    taken = {
        split.digest(index)
        for split in (images.train, images.validation, images.test)
        if split is not None
        for index in range(len(split))
    }
    validation: ImageSet | None
    test: ImageSet | None
    if not source.validation and not source.test:
        sample = _sample(source.train.with_classes(names), 2 * most, seed)
        validation, test = _split_in_two(_leave_out_taken(sample, taken), seed)
    else:
        test = _draw(source.test, names, most, seed, taken)
        if test is not None:
            taken |= {test.digest(index) for index in range(len(test))}
        validation = _draw(source.validation or source.train, names, most, seed, taken)
    return OutsideImages(validation=_or_none(validation), test=_or_none(test))


def _other_classes(
    present: Sequence[str], teacher_classes: Sequence[str], subtask_classes: Sequence[WantedClass]
) -> tuple[str, ...]:
    """Return the source's classes that the teacher has and the subtask does not have."""
    others = set(find_other_folders(teacher_classes, subtask_classes, present).values())
    return tuple(name for name in present if name in others)


def _draw(images: ImageSet | None, names: Sequence[str], most: int, seed: int, taken: set[str]) -> ImageSet | None:
    return None if not images else _leave_out_taken(_sample(images.with_classes(names), most, seed), taken)


def _sample(images: ImageSet, most: int, seed: int) -> ImageSet:
    """Keep up to `most` images: in a random order the first of every class, then the second, and so on."""
    order = np.random.default_rng(seed).permutation(len(images))
    turn = _turns(images.labels[order])
    return images.select(np.sort(order[np.argsort(turn, kind="stable")[:most]]))


def _turns(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each label (N,) how often it came before."""
    by_class = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_class], labels[by_class])
    turns = np.empty(len(labels), dtype=np.int64)
    turns[by_class] = np.arange(len(labels)) - starts
    return turns


def _leave_out_taken(images: ImageSet, taken: set[str]) -> ImageSet:
    return images.select([index for index in range(len(images)) if images.digest(index) not in taken])


def _split_in_two(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Divide images by their content, so that copies of one image stay on one side."""
    salted = [
        hashlib.sha256(f"outside|{seed}|{images.digest(index)}".encode()).digest()[0] for index in range(len(images))
    ]
    first = np.array(salted, dtype=np.uint8) < 128
    return images.select(np.flatnonzero(first)), images.select(np.flatnonzero(~first))


def _or_none(images: ImageSet | None) -> ImageSet | None:
    return images if images is not None and len(images) else None
