"""Smaller sets of the same images; each is a part of the next larger one."""

import hashlib

import numpy as np

from edgedistill_deploy.images.sets import NO_LABEL, ImageSet


def balance_order(images: ImageSet, salt: str) -> list[int]:
    """Return all positions so that the first n, for every n, are spread over the classes as equally as possible.

    Every class gives one image in turn while it has any; so do the images without a label, as if of one more class. The
    order depends on the images' content, the class names and the salt alone.
    """
    labels = [*range(len(images.class_names)), NO_LABEL]
    names = {label: "" if label == NO_LABEL else images.class_names[label] for label in labels}
    members = [
        sorted(np.flatnonzero(images.labels == label).tolist(), key=lambda index: _rank(salt, images.digest(index)))
        for label in labels
    ]
    turns = (
        (turn, label, index) for label, rows in zip(labels, members, strict=True) for turn, index in enumerate(rows)
    )
    return [
        index
        for turn, label, index in sorted(turns, key=lambda each: (each[0], _rank(f"{salt}|{each[0]}", names[each[1]])))
    ]


def draw_training_images(images: ImageSet, size: int | None, seed: int) -> ImageSet:
    """Draw `size` images (None: all), balanced over the classes; a smaller draw is a part of a larger one."""
    if size is None or size >= len(images):
        return images
    return images.select(sorted(balance_order(images, f"training|{seed}")[:size]))


def _rank(salt: str, name: str) -> bytes:
    return hashlib.sha256(f"{salt}|{name}".encode()).digest()
