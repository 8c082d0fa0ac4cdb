"""What a set of labelled images is."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import UsageError, nearest_names
from edgedistill_deploy.images.preprocess import Preprocess

Labels = NDArray[np.int64]
Indices = Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]


class ImageSet(Protocol):
    """Labelled images, read one at a time. Selecting makes another set over the same files or arrays."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in label order."""

    @property
    def labels(self) -> Labels:
        """The labels (N,), positions in `class_names`; read-only."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB at its own size; DataError names the file that cannot be read."""

    def digest(self, index: int) -> str:
        """Return the sha256 of the source in hexadecimal, computed once.

        The source is a file's bytes, or an array's shape as "HxW|" or "HxWx3|" and its pixels in row order.
        """

    def name(self, index: int) -> str:
        """Return an image's name for messages: its path, or its file and row."""

    def select(self, indices: Indices) -> "ImageSet":
        """Return the images at these positions in this order, or those where a mask (N,) is true."""

    def with_classes(self, class_names: Sequence[str]) -> "ImageSet":
        """Keep only the images of these classes, labelled in the order given. UsageError for unknown names."""

    def rename_classes(self, class_names: Sequence[str]) -> "ImageSet":
        """Keep all images and labels, and give the classes these names, one for each class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSplits:
    """A source of images: one class list and up to three sets. A source without splits is all `train`."""

    class_names: tuple[str, ...]
    train: ImageSet
    validation: ImageSet | None = None
    test: ImageSet | None = None

    def rename_classes(self, class_names: Sequence[str]) -> "ImageSplits":
        """Give the classes these names, one for each class."""
        return ImageSplits(
            class_names=tuple(class_names),
            train=self.train.rename_classes(class_names),
            validation=self.validation.rename_classes(class_names) if self.validation is not None else None,
            test=self.test.rename_classes(class_names) if self.test is not None else None,
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


def compose_name(name: str) -> str:
    """Return a class name in Unicode's composed form, to compare it. macOS stores "é" as two characters."""
    return unicodedata.normalize("NFC", name)


def find_class(name: str, class_names: Sequence[str]) -> int | None:
    """Return the position of the class that a name means, or None when there is none or no single one.

    It is the class of exactly this name. Where there is none, names count as lists of synonyms divided by commas, as in
    ImageNet ("tench, Tinca tinca"). Then it is the only class that shares a synonym.
    """
    if compose_name(name) in class_names:
        return class_names.index(compose_name(name))
    sharing = [place for place, each in enumerate(class_names) if _synonyms(name) & _synonyms(each)]
    return sharing[0] if len(sharing) == 1 else None


def find_typed_class(name: str, class_names: Sequence[str]) -> int | None:
    """Return the position of the class that a user types: as `find_class`, then without case, spaces, "_" and "-"."""
    place = find_class(name, class_names)
    if place is not None:
        return place
    alike = [place for place, each in enumerate(class_names) if _bare_synonyms(name) & _bare_synonyms(each)]
    return alike[0] if len(alike) == 1 else None


def _bare_synonyms(name: str) -> set[str]:
    return {re.sub(r"[\s_-]", "", part).casefold() for part in _synonyms(name)} - {""}


def _synonyms(name: str) -> set[str]:
    return {part.strip() for part in compose_name(name).split(",") if part.strip()}


def select_classes(
    labels: Labels, class_names: tuple[str, ...], wanted: Sequence[str]
) -> tuple[NDArray[np.int64], Labels]:
    """Return the positions of the images of the wanted classes, and their labels in the wanted order."""
    table = np.full(len(class_names), -1, dtype=np.int64)
    for label, name in enumerate(_distinct(wanted)):
        place = find_class(name, class_names)
        if place is None:
            raise UsageError(f"There is no class {name!r} among the images.{nearest_names(name, class_names)}")
        if table[place] >= 0:
            raise UsageError(
                f"{wanted[table[place]]!r} and {name!r} are one class of the images, {class_names[place]!r}; name it "
                "once."
            )
        table[place] = label
    translated = table[labels]
    rows = np.flatnonzero(translated >= 0)
    return rows, frozen_labels(translated[rows])


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not names:
        raise UsageError(f"The classes are {names!r}; give a list of at least one class name.")
    if repeated := sorted({name for name in names if list(names).count(name) > 1}):
        raise UsageError(f"The class {repeated[0]!r} is named twice; name each class once.")
    return tuple(names)
