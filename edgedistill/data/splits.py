"""Training, validation and test images of a subtask; no image is in two of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgedistill_deploy.classes.lookup import ClassList, in_one_message
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet, ImageSplits
from edgedistill_deploy.progress import Progress, silent

VALIDATION_FRACTION = 0.2  # of the training images, as in the paper
TEST_FRACTION = 0.2  # of all images, where the source has no test split


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtaskImages:
    """The subtask's images; labels are positions in the subtask.

    `test` is None where the source has a validation split but no test split. `notes` say in words which images were
    left out or moved.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet | None
    notes: tuple[str, ...] = ()

    @property
    def evaluation(self) -> ImageSet:
        """The images that judge the finished expert: test images, or validation images where there are none."""
        return self.test if self.test is not None else self.validation


def split_for_subtask(
    source: ImageSplits, class_names: Sequence[str], *, seed: int = 0, progress: Progress = silent
) -> SubtaskImages:
    """Keep the subtask's classes and make the splits that the source does not have.

    A source with one split is divided 64 / 16 / 20 into training, validation and test images. A source with train and
    test gives 20 % of train to validation. The split of an image depends on the content of its class's images and the
    seed alone, not on file names or order. An image that is also in a later split (validation, test) is removed from
    the earlier one.

    Raises:
        DataError: a class has too few images for the splits, or none.
    """
    train = _restrict(source.train, class_names, "training")
    validation = _restrict(source.validation, class_names, "validation") if source.validation else None
    test = _restrict(source.test, class_names, "test") if source.test else None
    _read_digests([each for each in (train, validation, test) if each is not None], progress)
    if validation is None and test is None:
        train, test = _hold_out(train, TEST_FRACTION, f"test|{seed}")
    if validation is None:
        train, validation = _hold_out(train, VALIDATION_FRACTION, f"validation|{seed}")
    return _without_leaks(train, validation, test)


def images_key(images: ImageSet) -> str:
    """Return a hash of the images' content and labels, in their order."""
    digest = hashlib.sha256()
    for index, label in enumerate(images.labels.tolist()):
        digest.update(f"{images.digest(index)} {label}\n".encode())
    return digest.hexdigest()


def _digests(images: ImageSet) -> list[str]:
    return [images.digest(index) for index in range(len(images))]


def _read_digests(sets: Sequence[ImageSet], progress: Progress) -> None:
    """Compute every digest once, with progress; the sets keep the digests."""
    total = sum(map(len, sets))
    places = ((images, index) for images in sets for index in range(len(images)))
    for done, (images, index) in enumerate(places, start=1):
        images.digest(index)
        if done % 100 == 0 or done == total:
            progress(done, total)


def _restrict(images: ImageSet, class_names: Sequence[str], split: str) -> ImageSet:
    if problems := ClassList(images.class_names).problems(class_names, f"The {split} images have"):
        raise DataError(in_one_message(problems))
    kept = images.with_classes(class_names)
    counts = np.bincount(kept.labels, minlength=len(class_names))
    empty = [name for name, count in zip(class_names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"The {split} images hold none of class {', '.join(map(repr, empty))}; add images or leave the class out of"
            " the subtask."
        )
    return kept


def _hold_out(images: ImageSet, fraction: float, salt: str) -> tuple[ImageSet, ImageSet]:
    """Divide each class by the order of its images' salted digests: the first `fraction` is held out."""
    order = [hashlib.sha256(f"{salt}|{each}".encode()).digest() for each in _digests(images)]
    held: list[int] = []
    for label, name in enumerate(images.class_names):
        members = sorted(np.flatnonzero(images.labels == label).tolist(), key=lambda index: order[index])
        count = max(1, round(fraction * len(members)))
        if len(members) < 2:
            raise DataError(
                f"Class {name!r} has {len(members)} image, too few to hold any out for {salt.split('|')[0]}; add images"
                " or give the data as train/, val/ and test/ folders."
            )
        held.extend(members[:count])
    chosen = np.zeros(len(images), dtype=bool)
    chosen[held] = True
    return images.select(np.flatnonzero(~chosen)), images.select(np.flatnonzero(chosen))


def _without_leaks(train: ImageSet, validation: ImageSet, test: ImageSet | None) -> SubtaskImages:
    tested: set[str] = set(_digests(test)) if test is not None else set()
    validation, of_validation = _excluding(validation, tested, "validation", "test")
    train, of_train = _excluding(train, tested | set(_digests(validation)), "training", "validation or test")
    for split, images in (("training", train), ("validation", validation)):
        absent = set(range(len(images.class_names))) - set(images.labels.tolist())
        if absent:
            name = images.class_names[min(absent)]
            raise DataError(
                f"After removing images that stand in another split too, no {split} image of class {name!r} is left; "
                "the splits overlap."
            )
    return SubtaskImages(train=train, validation=validation, test=test, notes=(*of_validation, *of_train))


def _excluding(images: ImageSet, forbidden: set[str], split: str, other: str) -> tuple[ImageSet, list[str]]:
    """Remove the images with forbidden digests, and say so in a note."""
    kept = [index for index, digest in enumerate(_digests(images)) if digest not in forbidden]
    removed = len(images) - len(kept)
    if not removed:
        return images, []
    plural = "images" if removed > 1 else "image"
    return images.select(kept), [f"{removed} {split} {plural} left out: the same content stands in {other}."]
