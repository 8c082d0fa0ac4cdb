"""WebDataset shards: tar archives whose images are read one by one, by their place in the archive."""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.places import find_places, is_url, read_range, require_server
from edgedistill_deploy.images.decode import UnusableImageError
from edgedistill_deploy.images.encoded._class_names import label_rows, read_class_names
from edgedistill_deploy.images.encoded._shard_index import ShardIndex, find_index, is_indexed
from edgedistill_deploy.images.encoded._split_names import split_in
from edgedistill_deploy.images.encoded.paths import Texts, join_texts
from edgedistill_deploy.images.encoded.patterns import expand_braces, split_options
from edgedistill_deploy.images.encoded.sets import EncodedImages, build_encoded_images
from edgedistill_deploy.images.sets import ImageSplits

MOST_IMAGE_BYTES = 1 << 28  # of one encoded image
OPTIONS = ("classes",)
_READERS = 8  # threads that read the headers of shards


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShardContents:
    """Images in shards: image i has `sizes[i]` bytes from `offsets[i]` on in the shard `places[in_shard[i]]`.

    Every read opens the shard anew, so threads and processes share no handle.
    """

    places: tuple[str, ...] = field(repr=False)
    in_shard: NDArray[np.int32] = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)
    sizes: NDArray[np.int64] = field(repr=False)
    names: Texts = field(repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    def source(self, row: int) -> bytes:
        """Return an image's bytes."""
        size = int(self.sizes[row])
        if size > MOST_IMAGE_BYTES:
            raise UnusableImageError(
                f"{self.name(row)} has {size} bytes, more than the {MOST_IMAGE_BYTES} that are read.",
                f"more than {MOST_IMAGE_BYTES >> 20} MB",
            )
        return read_range(self.places[self.in_shard[row]], int(self.offsets[row]), size)

    def name(self, row: int) -> str:
        """Return the shard and the name in it, such as "shards/train-000.tar/n01440764_10026.jpg"."""
        member = self.names[row].decode("utf-8", errors="surrogateescape")
        return printable(f"{self.places[self.in_shard[row]]}/{member}")


def open_shards(pattern: str, *, labels: bool = True) -> ImageSplits:
    """Open shards by a pattern: a file, a folder, "train-{000..146}.tar", "*.tar", or the same at https:// or s3://.

    A shard is a tar archive; files whose names agree up to the first full stop are one sample. Its image has the suffix
    of an image, its label is in the file .cls, .json or .txt. "?classes=FILE" names the classes of labels that are
    numbers. Shards whose names say train, val or test are these splits; all others are `train`. Headers and labels are
    read once, and kept in the cache of this user. Without `labels`, all images count, and none has one.

    Raises UsageError for a pattern that means nothing, DataError for shards that cannot be read or hold no sample.
    """
    places, names = _parse(pattern)
    for server in {place.split("/", 3)[2]: place for place in places if is_url(place)}.values():
        require_server(server)
    with ThreadPoolExecutor(_READERS) as threads:
        found = list(threads.map(find_index, places))
    texts = [each.labels[row].decode("utf-8", errors="replace") for each in found for row in range(len(each))]
    used = np.array([bool(text) or not labels for text in texts], dtype=np.bool_)
    if not used.any():
        raise DataError(_describe_nothing(pattern, places, found, labels))
    class_names, known = label_rows(texts if labels else [""] * len(texts), names, pattern)
    splits = np.repeat([split_in(each) for each in places], [len(each) for each in found])
    every = build_encoded_images(class_names, known, _join(places, found))
    return ImageSplits(
        class_names=class_names,
        train=every.select(used & (splits == "train")),
        validation=_split(every, used & (splits == "validation")),
        test=_split(every, used & (splits == "test")),
        notes=_notes(places, found, labels),
    )


def unread_shards(pattern: str) -> int:
    """Return how many shards on servers were never read; their headers lie all over the file, so that takes long."""
    places, _ = _parse(pattern)
    urls = [place for place in places if is_url(place)]
    if urls:
        require_server(urls[0])
    with ThreadPoolExecutor(_READERS) as threads:
        return sum(not known for known in threads.map(is_indexed, urls))


def _parse(pattern: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the shards, and the names of the classes where a file gives them."""
    rest, options = split_options(pattern, OPTIONS)
    names = read_class_names(options.get("classes", ""))
    found: list[str] = []
    for each in expand_braces(rest):
        place = each if is_url(each) else str(Path(each).expanduser())
        if "*" in place or (not is_url(place) and Path(place).is_dir()):
            listed = find_places(place if "*" in place else f"{Path(place).absolute()}/*.tar")
            if not listed:
                raise UsageError(f"There are no shards {place}; a folder of shards holds files that end in .tar.")
            found.extend(listed)
        else:
            found.append(place)
    absent = [place for place in found if not is_url(place) and not Path(place).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more of the {len(found)} shards" if len(absent) > 1 else ""
        raise UsageError(f"There is no shard {absent[0]}{more}; name a pattern such as train-{{000..146}}.tar.")
    return found, names


def _split(every: EncodedImages, chosen: NDArray[np.bool_]) -> EncodedImages | None:
    return every.select(chosen) if chosen.any() else None


def _join(places: Sequence[str], found: Sequence[ShardIndex]) -> ShardContents:
    return ShardContents(
        places=tuple(places),
        in_shard=np.repeat(np.arange(len(places), dtype=np.int32), [len(each) for each in found]),
        offsets=np.concatenate([each.offsets for each in found]),
        sizes=np.concatenate([each.sizes for each in found]),
        names=join_texts([each.names for each in found]),
    )


def _notes(places: Sequence[str], found: Sequence[ShardIndex], labels: bool) -> tuple[str, ...]:
    notes = []
    if labels and (without_label := sum(each.without_label for each in found)):
        notes.append(f"Samples without a label (.cls, .json or .txt) passed over in the shards: {without_label}.")
    if without_image := sum(each.without_image for each in found):
        notes.append(f"Samples without an image passed over in the shards: {without_image}.")
    used = [len(each) - (each.without_label if labels else 0) for each in found]
    empty = [place for place, count in zip(places, used, strict=True) if not count]
    return (*notes, f"Shards without a sample that is used: {', '.join(empty[:5])}.") if empty else tuple(notes)


def _describe_nothing(pattern: str, places: Sequence[str], found: Sequence[ShardIndex], labels: bool) -> str:
    why = functools.reduce(lambda joined, note: f"{joined} {note}", _notes(places[:1], found[:1], labels), "")
    if not labels:
        return f"The {len(places)} shards of wds:{pattern} hold no image.{why}"
    return (
        f"The {len(places)} shards of wds:{pattern} hold no labelled image; a sample is an image and a label of one "
        f"name, such as 0001.jpg and 0001.cls.{why}"
    )
