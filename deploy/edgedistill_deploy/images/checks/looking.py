"""A look at every image: it is decoded whole, because only so does a file that is cut off show itself."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from edgedistill_deploy.images.checks.limits import check_limits, describe_losses
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.sets import ImageSet, class_of
from edgedistill_deploy.images.skipped import SkippedFile
from edgedistill_deploy.progress import Progress, silent

_LEAST_SIDE = 4  # pixels
_CHUNK = 32  # images that a thread takes at once

T = TypeVar("T")


def read_usable(images: ImageSet, row: int) -> Image.Image:
    """Return an image as RGB. Raises UnusableImageError, with the reason, for one that cannot be used."""
    image = images.read(row)
    if min(image.size) < _LEAST_SIDE:
        reason = f"smaller than {_LEAST_SIDE} pixels"
        raise UnusableImageError(f"{images.name(row)} is {reason}; replace or remove it.", reason)
    return image


def look_in_threads(count: int, look: Callable[[int], T]) -> Iterator[T]:
    """Yield what `look` returns for 0, 1, ... `count` - 1, in order, from up to eight threads."""

    def take(start: int) -> list[T]:
        return [look(row) for row in range(start, min(start + _CHUNK, count))]

    # The threads would change the filters of warnings under each other; so all of them find these, and these go last.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        warnings.simplefilter("ignore")
        for found in threads.map(take, range(0, count, _CHUNK)):
            yield from found


def leave_out_unusable(
    images: ImageSet, skipped: Sequence[SkippedFile] = (), *, max_bad: float | None = None, progress: Progress = silent
) -> tuple[ImageSet, list[str]]:
    """Return the images that can be used, and notes on the files that are not.

    Args:
        images: of the subtask's classes, and called as it calls them.
        skipped: files beside them that are known to be of no use.
        max_bad: as for `check_limits`.
        progress: is told how many images were read.

    Raises:
        UnusableImagesError: too much cannot be used.
    """
    check_limits(skipped, _count(images), max_bad)  # by their names alone, before the files are read
    reasons: list[str] = []
    for reason in look_in_threads(len(images), lambda row: _find_fault(images, row)):
        reasons.append(reason)
        if len(reasons) % 100 == 0 or len(reasons) == len(images):
            progress(len(reasons), len(images))
    unusable = [
        SkippedFile(path=images.name(row), reason=reason, class_name=class_of(images, images.labels[row]))
        for row, reason in enumerate(reasons)
        if reason
    ]
    usable = images.select([row for row, reason in enumerate(reasons) if not reason]) if unusable else images
    lost, used = [*skipped, *unusable], _count(usable)
    check_limits(lost, used, max_bad)
    return usable, describe_losses(lost, used)


def _find_fault(images: ImageSet, row: int) -> str:
    """Return why an image cannot be used; empty where it can."""
    try:
        read_usable(images, row)
    except UnusableImageError as error:
        return error.reason
    return ""


def _count(images: ImageSet) -> Counter[str]:
    return Counter(class_of(images, label) for label in images.labels.tolist())
