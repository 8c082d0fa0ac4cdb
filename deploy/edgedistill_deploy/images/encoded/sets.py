"""A set of images that are decoded when they are read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import reading
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.encoded.paths import FileContents
from edgedistill_deploy.images.sets import Indices, Labels, frozen_labels, merge_classes, positions, select_classes

_DIGEST_BYTES = 32  # of sha256


class Contents(Protocol):
    """Encoded images by row, such as the files of a folder. Processes that load images share or copy it."""

    def __len__(self) -> int: ...

    def source(self, row: int) -> Path | bytes:
        """Return an image's file, or its bytes. Raises DataError where the bytes cannot be had."""

    def name(self, row: int) -> str:
        """Return an image's name for messages, as `printable` text."""


class Digests:
    """The sha256 of images that were asked for, 33 bytes each; what is not asked for takes no memory."""

    def __init__(self, count: int) -> None:
        self._known = np.zeros(count, dtype=np.bool_)
        self._values = np.zeros((count, _DIGEST_BYTES), dtype=np.uint8)

    def find(self, row: int) -> str:
        """Return a digest in hexadecimal, "" while it is not known."""
        return self._values[row].tobytes().hex() if self._known[row] else ""

    def keep(self, row: int, digest: str) -> None:
        """Remember a digest in hexadecimal."""
        self._values[row] = np.frombuffer(bytes.fromhex(digest), dtype=np.uint8)
        self._known[row] = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedImages:
    """Encoded images with a label each, read at their first use; image i of the set is row `rows[i]` of the contents.

    Sets that were selected from one another share the contents and the digests.
    """

    class_names: tuple[str, ...]
    labels: Labels = field(repr=False)
    contents: Contents = field(repr=False)
    rows: NDArray[np.int64] = field(repr=False)
    _digests: Digests = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB; DataError names the one that cannot be read."""
        row = int(self.rows[index])
        source = self.contents.source(row)
        if isinstance(source, Path):
            return read_image(source)
        if not self._digests.find(row):  # bytes from a server are asked for once
            self._digests.keep(row, _digest(source))
        return read_image(source, self.contents.name(row))

    def source(self, index: int) -> Path | bytes:
        """Return an image's file, or its bytes."""
        return self.contents.source(int(self.rows[index]))

    def file(self, index: int) -> Path | None:
        """Return an image's file; None for an image that is no file of its own."""
        return self.contents.source(int(self.rows[index])) if isinstance(self.contents, FileContents) else None

    def keep_digest(self, index: int, digest: str) -> None:
        """Remember a digest that is known from elsewhere."""
        self._digests.keep(int(self.rows[index]), digest)

    def digest(self, index: int) -> str:
        """Return the sha256 of the encoded image's bytes; DataError when it cannot be read."""
        row = int(self.rows[index])
        known = self._digests.find(row)
        if not known:
            known = _digest(self.contents.source(row))
            self._digests.keep(row, known)
        return known

    def name(self, index: int) -> str:
        """Return where an image lies, as `printable` text."""
        return self.contents.name(int(self.rows[index]))

    def select(self, indices: Indices) -> "EncodedImages":
        """Return the images at these positions."""
        chosen = positions(indices)
        return replace(self, labels=frozen_labels(self.labels[chosen]), rows=self.rows[chosen])

    def with_classes(self, class_names: Sequence[str]) -> "EncodedImages":
        """Keep only these classes, relabelled in this order."""
        chosen, labels = select_classes(self.labels, self.class_names, class_names)
        return replace(self, class_names=tuple(class_names), labels=labels, rows=self.rows[chosen])

    def rename_classes(self, class_names: Sequence[str]) -> "EncodedImages":
        """Give the classes these names, one for each class; those of one name become one class."""
        names, labels = merge_classes(self.labels, class_names)
        return replace(self, class_names=names, labels=labels)


def build_encoded_images(
    class_names: tuple[str, ...], labels: Sequence[int] | NDArray[np.integer], contents: Contents
) -> EncodedImages:
    """Return all rows of some contents as a set of images."""
    return EncodedImages(
        class_names=class_names,
        labels=frozen_labels(labels),
        contents=contents,
        rows=np.arange(len(contents)),
        _digests=Digests(len(contents)),
    )


def _digest(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with reading(source):
        return sha256_of_file(source)
