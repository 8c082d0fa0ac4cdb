"""A look at every image before anything is trained: which can be used, and which show the same picture."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from edgedistill.data.likeness import Thumbnails, find_alike, thumbnail
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped
from edgedistill_deploy.progress import Progress

MAX_BAD = 0.1  # of all pictures of the subtask
_MAX_BAD_IN_CLASS = 0.5  # a class that mostly vanished is not the class that the user has in mind
_LEAST_SIDE = 4  # pixels
_LEAST_SIDE_TO_COMPARE = 32  # of glyphs and icons, different ones look alike
_CHUNK = 32  # images that a thread takes at once


class UnusableImagesError(DataError):
    """Too many pictures cannot be used; `skipped` lists all files that are not used."""

    def __init__(self, message: str, skipped: tuple[SkippedFile, ...] = ()) -> None:
        super().__init__(message)
        self.skipped = skipped


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a look at images found.

    Attributes:
        unusable: {name: reason} of images that cannot be used.
        pictures: {digest: digest} of images that show the picture of others: the smallest of their digests.
    """

    unusable: Mapping[str, str] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)

    def usable(self, images: ImageSet) -> tuple[ImageSet, list[SkippedFile]]:
        """Return the images that can be used, and the others as skipped files."""
        skipped = [
            SkippedFile(path=images.name(row), reason=reason, class_name=images.class_names[label])
            for row, label in enumerate(images.labels.tolist())
            if (reason := self.unusable.get(images.name(row)))
        ]
        if not skipped:
            return images, []
        kept = [row for row in range(len(images)) if images.name(row) not in self.unusable]
        return images.select(kept), skipped

    def pictures_of(self, images: ImageSet) -> list[str]:
        """Return for each image a name of its picture; images of equal content, and copies, have the same."""
        digests = (images.digest(row) for row in range(len(images)))
        return [self.pictures.get(digest, digest) for digest in digests]


@dataclass(frozen=True, slots=True)
class _Look:
    name: str
    reason: str = ""
    digest: str = ""
    thumbnail: Thumbnails | None = None


def examine(sets: Sequence[ImageSet], progress: Progress) -> Examined:
    """Read every image once: files are decoded whole, in several threads, and arrays only hashed.

    The sets keep the digests. A file that is cut off shows that only when it is decoded, so this takes about as long as
    one epoch's reading.
    """
    total = sum(map(len, sets))
    looks: list[_Look] = []
    for done, look in enumerate(_look_at_all(sets), start=1):
        if look is not None:
            looks.append(look)
        if done % 100 == 0 or done == total:
            progress(done, total)
    return Examined(unusable={each.name: each.reason for each in looks if each.reason}, pictures=_find_pictures(looks))


def check_limits(skipped: Sequence[SkippedFile], used: Mapping[str, int], max_bad: float | None) -> None:
    """Refuse data of which too much cannot be used.

    Args:
        skipped: of the subtask's classes.
        used: {class: number of images that can be used}.
        max_bad: the largest share of unusable pictures that is left out without stopping; None for `MAX_BAD`.

    Raises:
        UnusableImagesError: the share is larger, or a class lost more than half of its pictures (and more than this
            share).
    """
    limit = MAX_BAD if max_bad is None else max_bad
    lost = [each for each in skipped if each.lost]
    in_class = Counter(each.class_name for each in lost)
    for name, bad in in_class.items():
        whole = bad + used.get(name, 0)
        if bad > max(limit, _MAX_BAD_IN_CLASS) * whole:
            listed = describe_skipped([each for each in lost if each.class_name == name])
            raise UnusableImagesError(
                f"{bad} of the {whole} pictures of class {name!r} cannot be used: {listed}. Convert or replace them, or"
                f" raise --max-bad, which is {limit:.3g}.",
                tuple(skipped),
            )
    whole = len(lost) + sum(used.values())
    if len(lost) > limit * whole:
        raise UnusableImagesError(
            f"{len(lost)} of {whole} pictures cannot be used, a share of {len(lost) / whole:.3f}, and --max-bad allows "
            f"{limit:.3g}: {describe_skipped(lost)}. Convert, replace or remove them, or raise --max-bad.",
            tuple(skipped),
        )


def describe_losses(skipped: Sequence[SkippedFile], used: Mapping[str, int]) -> list[str]:
    """Return notes that say which files are not used, and how many pictures each class lost."""
    notes = [f"{len(skipped)} files of the classes are not used: {describe_skipped(skipped)}."] if skipped else []
    in_class = Counter(each.class_name for each in skipped if each.lost)
    parts = [f"{name} {bad} of {bad + used.get(name, 0)}" for name, bad in in_class.most_common()]
    return [*notes, f"Pictures that cannot be used, by class: {', '.join(parts)}."] if parts else notes


def _look_at_all(sets: Sequence[ImageSet]) -> Iterator[_Look | None]:
    # The threads would change the filters of warnings under each other; so all of them find these, and these go last.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        warnings.simplefilter("ignore")
        for images in sets:
            if isinstance(images, EncodedImages):
                starts = range(0, len(images), _CHUNK)
                for looks in threads.map(lambda start, of=images: _look_at_chunk(of, start), starts):
                    yield from looks
            else:
                for row in range(len(images)):
                    images.digest(row)
                    yield None


def _look_at_chunk(images: EncodedImages, start: int) -> list[_Look]:
    return [_look_at(images, row) for row in range(start, min(start + _CHUNK, len(images)))]


def _look_at(images: EncodedImages, row: int) -> _Look:
    name = images.name(row)
    try:
        image = images.read(row)
    except UnusableImageError as error:
        return _Look(name, error.reason)
    if min(image.size) < _LEAST_SIDE:
        return _Look(name, f"smaller than {_LEAST_SIDE} pixels")
    small = thumbnail(image) if min(image.size) >= _LEAST_SIDE_TO_COMPARE else None
    return _Look(name, "", images.digest(row), small)


def _find_pictures(looks: Sequence[_Look]) -> dict[str, str]:
    """Return {digest: smallest digest of its group} for the images that are alike."""
    thumbnails = {each.digest: each.thumbnail for each in looks if each.thumbnail is not None}
    if len(thumbnails) < 2:
        return {}
    digests = list(thumbnails)
    groups: dict[str, set[str]] = {}
    for i, j in find_alike(np.stack(list(thumbnails.values()))):
        joined = groups.get(digests[i], {digests[i]}) | groups.get(digests[j], {digests[j]})
        groups.update(dict.fromkeys(joined, joined))
    return {digest: min(group) for digest, group in groups.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradictions:
    """Images whose picture stands under several labels: their pictures, how many a class has, and one example."""

    pictures: frozenset[str]
    counts: Mapping[str, int]
    example: str


def find_contradictions(sets: Sequence[ImageSet], examined: Examined) -> Contradictions:
    """Find the pictures that stand under more than one label."""
    labels: dict[str, dict[int, str]] = defaultdict(dict)
    places = [(images, examined.pictures_of(images)) for images in sets]
    for images, pictures in places:
        for row, (picture, label) in enumerate(zip(pictures, images.labels.tolist(), strict=True)):
            if label not in labels[picture]:
                labels[picture][label] = images.name(row)
    several = {picture: names for picture, names in labels.items() if len(names) > 1}
    counts = Counter(
        images.class_names[label]
        for images, pictures in places
        for picture, label in zip(pictures, images.labels.tolist(), strict=True)
        if picture in several
    )
    example = " and ".join(list(next(iter(several.values())).values())[:2]) if several else ""
    return Contradictions(pictures=frozenset(several), counts=counts, example=example)
