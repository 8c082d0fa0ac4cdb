"""A sample of a set of images that represents the whole set."""

import hashlib

import numpy as np

from edgedistill_deploy.images.sets import ImageSet


def sample_images(images: ImageSet, count: int, seed: int) -> ImageSet:
    """Return at most `count` images, classes in proportion; the choice depends on their content and the seed alone."""
    if len(images) <= count:
        return images
    place: dict[int, tuple[float, str]] = {}
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label).tolist()
        drawn = sorted((_draw(images.digest(index), seed), index) for index in members)
        # The first images of every class have low places, so a cut takes the same part of every class.
        for rank, (key, index) in enumerate(drawn):
            place[index] = ((rank + 0.5) / len(members), key)
    return images.select(sorted(sorted(place, key=place.__getitem__)[:count]))


def sample_evenly(images: ImageSet, count: int, seed: int) -> ImageSet:
    """Return at most `count` images, of each class as many as of the others while it has some.

    Images without a label are one class. The choice depends on the images' content and the seed alone.
    """
    if len(images) <= count:
        return images
    place: dict[int, tuple[int, str]] = {}
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label).tolist()
        drawn = sorted((_draw(images.digest(index), seed), index) for index in members)
        place |= {index: (rank, key) for rank, (key, index) in enumerate(drawn)}
    return images.select(sorted(sorted(place, key=place.__getitem__)[:count]))


def _draw(digest: str, seed: int) -> str:
    return hashlib.sha256(f"inspect|{seed}|{digest}".encode()).hexdigest()
