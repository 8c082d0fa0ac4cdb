"""What a set of images is; some or all of them may have no label."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.skipped import SkippedFile

NO_LABEL = -1  # in place of the position of a class
Labels = NDArray[np.int64]
Indices = Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]


class ImageSet(Protocol):
    """Images, read one at a time. Selecting makes another set over the same files or arrays."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in label order."""

    @property
    def labels(self) -> Labels:
        """The labels (N,), positions in `class_names`, `NO_LABEL` for an image without one; read-only."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB at its own size; DataError names the file that cannot be read."""

    def digest(self, index: int) -> str:
        """Return the sha256 of the source in hexadecimal, computed once.

        The source is a file's bytes, or an array's shape as "HxW|" or "HxWx3|" and its pixels in row order.
        """

    def name(self, index: int) -> str:
        """Return an image's name for messages, as `printable` text: its path, or its file and row."""

    def select(self, indices: Indices) -> "ImageSet":
        """Return the images at these positions in this order, or those where a mask (N,) is true."""

    def with_classes(self, class_names: Sequence[str]) -> "ImageSet":
        """Keep only the images of these classes, labelled in the order given. UsageError for unknown names.

        Images without a label are left out.
        """

    def rename_classes(self, class_names: Sequence[str]) -> "ImageSet":
        """Keep all images, and give the classes these names, one for each class; those of one name become one class.

        A set in which no image has a label takes any names.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSplits:
    """A source of images: one class list and up to three sets. A source without splits is all `train`.

    Images that lie in no class folder have no label. A source of such images alone has no classes.

    Attributes:
        notes: how a folder was understood and what was passed over, a sentence each.
        skipped: the files in class folders that are no images or are in a format that is not read.
        empty: the names of folders that could have been classes and hold no picture.
        in_folders: the classes are names of folders, of which some may be meant as something else.
    """

    class_names: tuple[str, ...]
    train: ImageSet
    validation: ImageSet | None = None
    test: ImageSet | None = None
    notes: tuple[str, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()
    empty: tuple[str, ...] = ()
    in_folders: bool = False

    def rename_classes(self, class_names: Sequence[str]) -> "ImageSplits":
        """Give the classes these names, one for each class; those of one name become one class."""
        names = dict(zip(self.class_names, class_names, strict=True))
        return replace(
            self,
            class_names=tuple(dict.fromkeys(class_names)),
            train=self.train.rename_classes(class_names),
            validation=self.validation.rename_classes(class_names) if self.validation is not None else None,
            test=self.test.rename_classes(class_names) if self.test is not None else None,
            skipped=tuple(replace(each, class_name=names.get(each.class_name, "")) for each in self.skipped),
        )


def batches(images: ImageSet, preprocess: Preprocess, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Yield prepared images, uint8 (n, H, W, 3), in order, at most `batch_size` in memory at a time."""
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; it must be 1 or more.")
    return _batches(images, preprocess, batch_size)


def _batches(images: ImageSet, preprocess: Preprocess, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(images), batch_size):
        rows = range(start, min(start + batch_size, len(images)))
        yield np.stack([preprocess.apply(images.read(row)) for row in rows])


def positions(indices: Indices) -> NDArray[np.int64]:
    """Return indices or a mask as positions."""
    given = np.asarray(indices)
    return np.flatnonzero(given) if given.dtype == np.bool_ else given.astype(np.int64)


def frozen_labels(labels: Sequence[int] | NDArray[np.integer]) -> Labels:
    """Return a read-only copy as int64."""
    copy = np.array(labels, dtype=np.int64)
    copy.setflags(write=False)
    return copy


def merge_classes(labels: Labels, class_names: Sequence[str]) -> tuple[tuple[str, ...], Labels]:
    """Return the different names, in order, and the labels (N,) as positions among them; a label of -1 stays."""
    merged = tuple(dict.fromkeys(class_names))
    if len(merged) == len(class_names):
        return merged, labels
    places = {name: place for place, name in enumerate(merged)}
    table = np.array([places[name] for name in class_names], dtype=np.int64)
    return merged, frozen_labels(np.where(labels < 0, labels, table[labels]))


def select_classes(
    labels: Labels, class_names: tuple[str, ...], wanted: Sequence[str]
) -> tuple[NDArray[np.int64], Labels]:
    """Return the positions of the images of the wanted classes, and their labels in the wanted order."""
    if isinstance(wanted, str) or not wanted:
        raise UsageError(f"The classes are {wanted!r}; give a list of at least one class name.")
    table = np.full(len(class_names), -1, dtype=np.int64)
    table[list(ClassList(class_names).find_all(wanted, "The images have"))] = np.arange(len(wanted))
    translated = np.where(labels == NO_LABEL, NO_LABEL, table[labels])
    rows = np.flatnonzero(translated >= 0)
    return rows, frozen_labels(translated[rows])


def class_of(images: ImageSet, label: int) -> str:
    """Return the name of a label's class; "" for `NO_LABEL`."""
    return "" if label == NO_LABEL else images.class_names[label]
