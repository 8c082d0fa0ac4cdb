"""Images in the arrays of one .npz file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.npz import Arrays, ArraySpec, read_arrays
from edgedistill_deploy.images.sets import (
    NO_LABEL,
    ImageSplits,
    Indices,
    Labels,
    frozen_labels,
    positions,
    select_classes,
)

MAX_BYTES = 8 << 30
_TRAIN, _VALIDATION, _TEST = 0, 1, 2

_SPECS = {
    "images": ArraySpec(
        kinds="u", item_bytes=1, axes=(3, 4), description="uint8 (N, H, W) or (N, H, W, 3), values 0 to 255"
    ),
    "labels": ArraySpec(kinds="iu", axes=(1,), description="whole numbers (N,), positions in class_names, -1 for none"),
    "class_names": ArraySpec(kinds="U", axes=(1,), description="strings (C,)"),
    "split": ArraySpec(kinds="iu", axes=(1,), description="0 train, 1 validation, 2 test (N,)", required=False),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayImages:
    """Rows of one uint8 array (M, H, W) or (M, H, W, 3), not copied; image i of the set is row `rows[i]`."""

    class_names: tuple[str, ...]
    labels: Labels = field(repr=False)
    images: NDArray[np.uint8] = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    source: str = "npz"
    _digests: dict[int, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB; grey is repeated over the channels."""
        return Image.fromarray(np.ascontiguousarray(self.images[self.rows[index]])).convert("RGB")

    def digest(self, index: int) -> str:
        """Return the sha256 of the shape, as "HxW|" or "HxWx3|", and the pixels in row order."""
        row = int(self.rows[index])
        if row not in self._digests:
            pixels = self.images[row]
            shape = "x".join(map(str, pixels.shape))
            self._digests[row] = hashlib.sha256(f"{shape}|".encode() + pixels.tobytes()).hexdigest()
        return self._digests[row]

    def name(self, index: int) -> str:
        """Return the file's name and the row, for example "digits.npz image 17"."""
        return printable(f"{self.source} image {self.rows[index]}")

    def select(self, indices: Indices) -> "ArrayImages":
        """Return the images at these positions; the pixels are shared."""
        chosen = positions(indices)
        return replace(self, labels=frozen_labels(self.labels[chosen]), rows=self.rows[chosen])

    def with_classes(self, class_names: Sequence[str]) -> "ArrayImages":
        """Keep only these classes, relabelled in this order."""
        chosen, labels = select_classes(self.labels, self.class_names, class_names)
        return replace(self, class_names=tuple(class_names), labels=labels, rows=self.rows[chosen])

    def rename_classes(self, class_names: Sequence[str]) -> "ArrayImages":
        """Give the classes these names, one for each class."""
        return replace(self, class_names=tuple(class_names))


def build_array_images(
    class_names: tuple[str, ...], labels: NDArray[np.integer], images: NDArray[np.uint8], source: str
) -> ArrayImages:
    """Return all rows of an array as a set of images."""
    rows = np.arange(len(images))
    return ArrayImages(class_names=class_names, labels=frozen_labels(labels), images=images, rows=rows, source=source)


def open_arrays(path: Path) -> ImageSplits:
    """Open the arrays `images`, `labels`, `class_names` and the optional `split` of an .npz file.

    Raises DataError naming the file and the array that is missing, has another type or does not fit the others.
    """
    arrays = read_arrays(path, _SPECS, DataError, limit_bytes=MAX_BYTES)
    images = _check_images(arrays["images"], path)
    names = _check_names(arrays, path)
    labels = _check_labels(arrays, len(images), len(names), path)
    split = _check_split(arrays, len(images), path)
    everything = build_array_images(names, labels, images, path.name)
    return ImageSplits(
        class_names=names,
        train=everything.select(split == _TRAIN),
        validation=everything.select(split == _VALIDATION) if _VALIDATION in split else None,
        test=everything.select(split == _TEST) if _TEST in split else None,
    )


def _check_images(images: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.size == 0 or (images.ndim == 4 and images.shape[3] != 3):
        raise DataError(
            f"{path}: images has shape {images.shape}; it must be {_SPECS['images'].description}, N at least 1."
        )
    images.setflags(write=False)
    return images


def _check_names(arrays: Arrays, path: Path) -> tuple[str, ...]:
    names = tuple(compose_name(str(name)) for name in arrays["class_names"])
    if not names or len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise DataError(f"{path}: class_names is {', '.join(names[:10])!r}; it must hold different names, none empty.")
    return names


def _check_labels(arrays: Arrays, count: int, classes: int, path: Path) -> NDArray[np.integer]:
    labels = arrays["labels"]
    if len(labels) != count:
        raise DataError(f"{path}: there are {len(labels)} labels for {count} images; each image needs one.")
    if labels.min() < NO_LABEL or labels.max() >= classes:
        raise DataError(
            f"{path}: labels run from {labels.min()} to {labels.max()}, but {classes} class_names allow 0 to "
            f"{classes - 1}, and {NO_LABEL} for an image without a label."
        )
    return labels


def _check_split(arrays: Arrays, count: int, path: Path) -> NDArray[np.integer]:
    split = arrays.get("split", np.zeros(count, dtype=np.int64))
    if len(split) != count:
        raise DataError(f"{path}: split has {len(split)} entries for {count} images; each image needs one.")
    if not np.isin(split, (_TRAIN, _VALIDATION, _TEST)).all():
        raise DataError(
            f"{path}: split holds {split.min()} to {split.max()}; it must be 0 train, 1 validation or 2 test."
        )
    return split
