"""Images without labels: where they come from, and what they are used for.

Subspaces, subtask logits and layer terms need no label. Validation and test need one to measure accuracy; without, the
teacher's answers stand in for the labels, and accuracy becomes agreement with the teacher.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill.data.sources import open_source
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError, reading
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.folder import open_unsorted
from edgedistill_deploy.images.sets import (
    NO_LABEL,
    ImageSet,
    ImageSplits,
    Indices,
    Labels,
    frozen_labels,
    merge_classes,
    positions,
    select_classes,
)

JudgedBy = Literal["labels", "teacher"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinedImages:
    """Images of several sets as one set, with labels of its own.

    Attributes:
        sets: are read from; their labels and classes do not matter.
        places: (N, 2), for each image which of the sets it is in, and at which position there.
    """

    class_names: tuple[str, ...]
    labels: Labels = field(repr=False)
    sets: tuple[ImageSet, ...]
    places: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.places)

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB; DataError names the file that cannot be read."""
        images, row = self._place(index)
        return images.read(row)

    def digest(self, index: int) -> str:
        """Return the sha256 of the image's source, as its own set does."""
        images, row = self._place(index)
        return images.digest(row)

    def name(self, index: int) -> str:
        """Return the image's name in its own set."""
        images, row = self._place(index)
        return images.name(row)

    def select(self, indices: Indices) -> "JoinedImages":
        """Return the images at these positions."""
        rows = positions(indices)
        return replace(self, labels=frozen_labels(self.labels[rows]), places=self.places[rows])

    def with_classes(self, class_names: Sequence[str]) -> "JoinedImages":
        """Keep only these classes, relabelled in this order."""
        rows, labels = select_classes(self.labels, self.class_names, class_names)
        return replace(self, class_names=tuple(class_names), labels=labels, places=self.places[rows])

    def rename_classes(self, class_names: Sequence[str]) -> "JoinedImages":
        """Give the classes these names, one for each class; those of one name become one class."""
        names, labels = merge_classes(self.labels, class_names)
        return replace(self, class_names=names, labels=labels)

    def _place(self, index: int) -> tuple[ImageSet, int]:
        which, row = self.places[index]
        return self.sets[which], int(row)


def join(sets: Sequence[ImageSet], class_names: Sequence[str]) -> ImageSet:
    """Return the images of sets with the same labels, one set after the other."""
    filled = [each for each in sets if len(each)]
    if len(filled) == 1 and filled[0].class_names == tuple(class_names):
        return filled[0]
    return JoinedImages(
        class_names=tuple(class_names),
        labels=frozen_labels([label for each in filled for label in each.labels.tolist()]),
        sets=tuple(filled),
        places=np.concatenate([np.zeros((0, 2), np.int64), *map(_numbered, range(len(filled)), filled)]),
    )


def _numbered(which: int, images: ImageSet) -> NDArray[np.int64]:
    return np.stack([np.full(len(images), which), np.arange(len(images))], axis=1).astype(np.int64)


def without_labels(images: ImageSet, class_names: Sequence[str]) -> ImageSet:
    """Return all images of a set as images of a subtask that have no label."""
    return JoinedImages(
        class_names=tuple(class_names),
        labels=frozen_labels([NO_LABEL] * len(images)),
        sets=(images,),
        places=_numbered(0, images),
    )


def sources_of(images: ImageSet) -> Iterator[ImageSet]:
    """Yield the sets that a set was joined from, each with the images that are in it; any other set as it is."""
    if not isinstance(images, JoinedImages):
        yield images
        return
    for which, each in enumerate(images.sets):
        rows = images.places[images.places[:, 0] == which, 1]
        if len(rows):
            yield from sources_of(each.select(rows))


def labelled_rows(images: ImageSet) -> NDArray[np.int64]:
    """Return the positions of the images that have a label."""
    return np.flatnonzero(images.labels != NO_LABEL)


def unlabelled_count(images: ImageSet) -> int:
    """Return how many images have no label."""
    return len(images) - len(labelled_rows(images))


def judged_by(images: ImageSet) -> JudgedBy:
    """Return what answers to these images are held against; held-out images have labels all, or none of them has."""
    return "labels" if len(labelled_rows(images)) else "teacher"


def fill_in(labels: NDArray[np.integer], answers: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the labels (N,), with the teacher's answers (N,) for the images that have none."""
    return np.where(labels == NO_LABEL, answers, labels).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Purposes:
    """What the images of a source are for, by the name of the split: training, validation, test.

    Attributes:
        sets: the images of each split: with labels all of them, in the source's classes, or none of them.
        beside: images without labels that are only for training, beside the training images of `sets`.
        notes: sentences on images that are not used.
    """

    sets: dict[str, ImageSet]
    beside: ImageSet
    notes: tuple[str, ...] = ()

    def has_labels(self, split: str) -> bool:
        """Return whether the images of a split have labels."""
        return split in self.sets and bool(len(labelled_rows(self.sets[split])))


def find_purposes(source: ImageSplits, unlabelled: ImageSplits | None, class_names: Sequence[str] = ()) -> Purposes:
    """Decide what images with and without labels are for.

    Images without a label are for training. Where no training image has a label, they also give what the source lacks
    of validation and test images, first those of the source itself. Validation and test images without a label are used
    where they judge at least as well as others: for validation where no training image has a label, for the test where
    no image has one.

    Args:
        source: the images.
        unlabelled: more images, whose labels do not matter; only those of its `train` are used.
        class_names: of the subtask; the images without labels become images of these classes.
    """
    given = {"training": source.train, "validation": source.validation, "test": source.test}
    labelled = {split: _labelled(each) for split, each in given.items() if each and len(labelled_rows(each))}
    loose = {
        split: without_labels(each.select(each.labels == NO_LABEL), class_names)
        for split, each in given.items()
        if each and unlabelled_count(each)
    }
    extra = [] if unlabelled is None else [without_labels(unlabelled.train, class_names)]
    nothing = without_labels(source.train.select([]), class_names)
    own = [loose.pop("training")] if "training" in loose else []
    sets = dict(labelled)
    if "training" in labelled:
        beside = join([*own, *extra, nothing], class_names)
    else:
        sets["training"] = join(own or [*extra, nothing], class_names)
        beside = join([*extra, nothing] if own else [nothing], class_names)
        if "validation" in loose and "validation" not in labelled:
            sets["validation"] = loose.pop("validation")
        if "test" in loose and not labelled:
            sets["test"] = loose.pop("test")
    ordered = {split: sets[split] for split in given if split in sets}
    return Purposes(sets=ordered, beside=beside, notes=tuple(_describe_unused(loose)))


def _labelled(images: ImageSet) -> ImageSet:
    return images if not unlabelled_count(images) else images.select(labelled_rows(images))


def _describe_unused(loose: dict[str, ImageSet]) -> Iterator[str]:
    for split, images in loose.items():
        yield (
            f"{len(images)} {split} images without a label are not used, because other images have labels, which judge"
            " better; --unlabelled trains on such images."
        )


def open_both(source: str, unlabelled: str, class_names: Sequence[str] = ()) -> tuple[ImageSplits, ImageSplits | None]:
    """Open the two sources of a run: that of its images, and that of images without labels; one of them may be "".

    Raises:
        UsageError, DataError: as `open_source` and `open_unlabelled`.
    """
    if not source:
        return open_unlabelled(unlabelled), None
    opened = open_source(source)
    return opened, open_unlabelled(unlabelled, opened, class_names) if unlabelled else None


def open_unlabelled(name: str, beside: ImageSplits | None = None, class_names: Sequence[str] = ()) -> ImageSplits:
    """Open a source of images that have no labels, or whose labels do not matter.

    Of a folder, all images count, at any depth and whatever its folders are called. Of another source, only the
    training images do.

    Args:
        name: as for `open_source`.
        beside: the images of the other source.
        class_names: of the subtask; classes of `beside` that it does not have do not matter.

    Raises:
        UsageError: there is no such source, or the folder holds images that `beside` has too.
        DataError: it holds no images.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return _without_held_out(open_source(name, labels=False), name)
    with reading(folder):
        opened = open_unsorted(folder)
    if beside is not None:
        _refuse_given_twice(folder, beside, class_names)
    return opened


def _without_held_out(opened: ImageSplits, name: str) -> ImageSplits:
    held = [each for each in (opened.validation, opened.test) if each]
    left = f"Of {name}, {sum(map(len, held))} validation and test images are not used for training."
    return ImageSplits(
        class_names=(),
        train=without_labels(opened.train, ()),
        notes=(*opened.notes, *([left] if held else [])),
        skipped=tuple(replace(each, class_name="") for each in opened.skipped),
    )


def _refuse_given_twice(folder: Path, beside: ImageSplits, class_names: Sequence[str]) -> None:
    """Refuse a folder from which the other source reads images too, with their labels or without."""
    root, own = os.path.realpath(folder), ClassList(class_names)
    parents = {
        file.parent
        for images in (beside.train, beside.validation, beside.test)
        if isinstance(images, EncodedImages)
        for row, label in enumerate(images.labels.tolist())
        if label == NO_LABEL or own.find(images.class_names[label]) is not None
        if (file := images.file(row)) is not None
    }
    inside = sorted(each for each in parents if Path(os.path.realpath(each)).is_relative_to(root))
    if inside:
        raise UsageError(
            f"--unlabelled {folder} holds images that --data reads too, such as those in {inside[0]}. Give a folder of "
            "other images, or leave --unlabelled out."
        )


def describe_unlabelled(images: ImageSet) -> str:
    """Return how many of the images have no label, to be read behind their number; "" for none."""
    count = unlabelled_count(images)
    return f" ({count if count < len(images) else 'all'} without a label)" if count else ""
