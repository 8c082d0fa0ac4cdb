"""A look at every image before anything is trained: which can be used, and which show the same picture."""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edgedistill.data._known_looks import KnownLooks, Look, find_state, read_known_looks, write_known_looks
from edgedistill.data.likeness import find_alike, thumbnail
from edgedistill.data.unlabelled import sources_of
from edgedistill_deploy.images.checks.looking import look_in_threads, read_usable
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.encoded.sets import EncodedImages
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet, class_of
from edgedistill_deploy.images.skipped import SkippedFile
from edgedistill_deploy.progress import Progress

_LEAST_SIDE_TO_COMPARE = 32  # of glyphs and icons, different ones look alike


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
            SkippedFile(path=images.name(row), reason=reason, class_name=class_of(images, label))
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


def examine(sets: Sequence[ImageSet], progress: Progress, kept: Path | None = None) -> Examined:
    """Read every image once: files are decoded whole, in several threads, and arrays only hashed.

    The sets keep the digests. A file that is cut off shows that only when it is decoded, so this takes about as long as
    one epoch's reading. With `kept`, a file, what was found is written there, and a later look with the same file
    decodes only what changed since then.
    """
    total = sum(map(len, sets))
    known = read_known_looks(kept)
    looks: list[Look] = []
    for done, look in enumerate(_look_at_all(sets, known), start=1):
        if look is not None:
            looks.append(look)
        if done % 100 == 0 or done == total:
            progress(done, total)
    if kept is not None and any(each.state is not None and not each.is_known for each in looks):
        write_known_looks(kept, looks)
    return Examined(unusable={each.name: each.reason for each in looks if each.reason}, pictures=_find_pictures(looks))


def _look_at_all(sets: Sequence[ImageSet], known: KnownLooks) -> Iterator[Look | None]:
    for images in (source for each in sets for source in sources_of(each)):
        if isinstance(images, EncodedImages):
            yield from look_in_threads(len(images), functools.partial(_look_at, images, known))
        else:
            for row in range(len(images)):
                images.digest(row)
                yield None


def _look_at(images: EncodedImages, known: KnownLooks, row: int) -> Look:
    """Decode an image, unless an earlier look at its file is known."""
    name, path = images.name(row), images.file(row)
    before = find_state(path)
    if (look := known.find(name, path, before)) is not None:
        if look.digest:
            images.keep_digest(row, look.digest)
        return look
    look = _decode(images, row, name)
    return replace(look, path=path, state=before) if find_state(path) == before else look


def _decode(images: EncodedImages, row: int, name: str) -> Look:
    try:
        image = read_usable(images, row)
    except UnusableImageError as error:
        return Look(name, error.reason)
    small = thumbnail(image) if min(image.size) >= _LEAST_SIDE_TO_COMPARE else None
    return Look(name, "", images.digest(row), small)


def _find_pictures(looks: Sequence[Look]) -> dict[str, str]:
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
    """Find the pictures that stand under more than one label; images without a label do not count."""
    labels: dict[str, dict[int, str]] = defaultdict(dict)
    places = [(images, examined.pictures_of(images)) for images in sets]
    for images, pictures in places:
        for row, (picture, label) in enumerate(zip(pictures, images.labels.tolist(), strict=True)):
            if label != NO_LABEL and label not in labels[picture]:
                labels[picture][label] = images.name(row)
    several = {picture: names for picture, names in labels.items() if len(names) > 1}
    counts = Counter(
        images.class_names[label]
        for images, pictures in places
        for picture, label in zip(pictures, images.labels.tolist(), strict=True)
        if picture in several and label != NO_LABEL
    )
    example = " and ".join(list(next(iter(several.values())).values())[:2]) if several else ""
    return Contradictions(pictures=frozenset(several), counts=counts, example=example)
