"""Prepared images that are kept in memory, so that each is decoded once in a run, where they fit."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.hardware.memory import read_free_memory_bytes
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet

Pixels = NDArray[np.uint8]
# The part of the free memory that kept images may take; activations and other programs need the rest.
SHARE = 1 / 4


class KeptImages:
    """Prepared images uint8 (N, H, W, 3) of one set, which come one by one as they are decoded."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._pixels = np.empty((count, *size, 3), dtype=np.uint8)  # the system gives memory where it is written
        self._known = np.zeros(count, dtype=np.bool_)

    @property
    def missing(self) -> int:
        """How many images are not there yet."""
        return int((~self._known).sum())

    def find(self, index: int) -> Pixels | None:
        """Return an image (H, W, 3), which must not be written; None while it is not there."""
        return self._pixels[index] if self._known[index] else None

    def keep(self, index: int, pixels: Pixels) -> None:
        """Keep an image (H, W, 3)."""
        self._pixels[index] = pixels
        self._known[index] = True


@dataclass(slots=True, kw_only=True)
class ImageMemory:
    """Decides which sets of images are kept, within `budget_bytes`; 0 keeps none. It notes who decodes them, too.

    A set is known by its identity: the same images in another selection are another set.
    """

    budget_bytes: int = 0
    _kept: dict[int, tuple[ImageSet, KeptImages]] = field(default_factory=dict)
    _used_bytes: int = 0
    _most_bytes: int = 0
    _workers: int = 0

    def admit(self, images: ImageSet, preprocess: Preprocess) -> bool:
        """Keep the images of a set from now on, if all of them fit; return whether they do."""
        needed = _bytes_of(images, preprocess)
        if not needed or self._used_bytes + needed > self.budget_bytes or self.of(images) is not None:
            return self.of(images) is not None
        self._kept[id(images)] = images, KeptImages(len(images), preprocess.size)
        self._used_bytes += needed
        self._most_bytes = max(self._most_bytes, self._used_bytes)
        return True

    def of(self, images: ImageSet) -> KeptImages | None:
        """Return what is kept of a set; None for a set that was not admitted."""
        entry = self._kept.get(id(images))
        return None if entry is None else entry[1]

    def note_workers(self, count: int) -> None:
        """Note that so many processes decode images."""
        self._workers = max(self._workers, count)

    def to_json(self) -> dict[str, int]:
        """Return for records how many bytes of images were kept at most, and the most processes that decoded."""
        return {"workers": self._workers, "kept_bytes": self._most_bytes, "budget_bytes": self.budget_bytes}

    def release(self, images: ImageSet, preprocess: Preprocess) -> None:
        """Keep a set no more; its room is free for others."""
        if self._kept.pop(id(images), None) is not None:
            self._used_bytes -= _bytes_of(images, preprocess)


def open_image_memory() -> ImageMemory:
    """Return a memory with a share of what is free now."""
    return ImageMemory(budget_bytes=int((read_free_memory_bytes() or 0) * SHARE))


def _bytes_of(images: ImageSet, preprocess: Preprocess) -> int:
    return len(images) * math.prod(preprocess.size) * 3
