"""Images in Parquet files, as Hugging Face's hub and data tools write them: a column of images and one of labels."""

import functools
import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError, UsageError, nearest_names, reading
from edgedistill_deploy.files.caches import cache_folder
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.places import describe_place, find_places, is_url, require_server
from edgedistill_deploy.files.writing import write_whole
from edgedistill_deploy.images.encoded._class_names import label_rows, read_class_names
from edgedistill_deploy.images.encoded._parquet_files import class_names_of, open_parquet
from edgedistill_deploy.images.encoded._split_names import split_in
from edgedistill_deploy.images.encoded.patterns import expand_braces, split_options
from edgedistill_deploy.images.encoded.sets import build_encoded_images
from edgedistill_deploy.images.sets import ImageSplits

OPTIONS = ("image", "label", "classes")
_IMAGES = ("image", "img", "images", "picture", "jpg", "png")
_LABELS = ("label", "labels", "class", "class_name", "fine_label", "category", "target")
_UNPACKING = threading.Lock()  # several threads want the same row group first
_GROUPS_KEPT = 4096  # whose tables of ends are kept in memory


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParquetContents:
    """Images in row groups: group g has the rows from `starts[g]` on, in the file `places[in_file[g]]`.

    A row group can only be unpacked whole. So at the first use of one of its images, its images are written into one
    file of the cache, and read from there by their place.
    """

    places: tuple[str, ...] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    columns: tuple[str, ...] = field(repr=False)
    starts: NDArray[np.int64] = field(repr=False)
    in_file: NDArray[np.int32] = field(repr=False)
    first_groups: NDArray[np.int32] = field(repr=False)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def source(self, row: int) -> bytes:
        """Return an image's bytes."""
        group = self._group(row)
        unpacked, count = self._unpacked(group), int(self.starts[group + 1] - self.starts[group])
        ends = _ends(unpacked, count)
        place = row - int(self.starts[group])
        start = int(ends[place - 1]) if place else 0
        with reading(unpacked), unpacked.open("rb") as stream:
            stream.seek(8 * count + start)
            return stream.read(int(ends[place]) - start)

    def name(self, row: int) -> str:
        """Return the file and the row in it, such as "data/train-00000-of-00001.parquet row 17"."""
        group = self._group(row)
        file = int(self.in_file[group])
        return printable(f"{self.places[file]} row {row - int(self.starts[self.first_groups[file]])}")

    def _group(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def _unpacked(self, group: int) -> Path:
        file = int(self.in_file[group])
        number = group - int(self.first_groups[file])
        path = cache_folder("parquet") / self.keys[file] / f"{number}.images"
        if not path.is_file():
            with _UNPACKING:
                if not path.is_file():
                    _unpack(self.places[file], number, self.columns[file], path)
        return path


def open_parquet_images(name: str, *, labels: bool = True) -> ImageSplits:
    """Open Parquet files: a file, a folder, "train-{00..07}.parquet", or the same at https:// or s3://.

    The column of images holds bytes, or bytes and a path as Hugging Face's library writes them. The column of labels
    holds names, or numbers whose names are in the file or in "?classes=FILE". "?image=COLUMN&label=COLUMN" names the
    columns where they are not the usual ones. Files that say train, val or test are these splits, as in
    "test-00000-of-00001.parquet"; all others are `train`. Only labels are read here. Without `labels`, there need be no
    column of labels, all rows count, and none has a label.

    Raises UsageError for a pattern that means nothing, DataError for files that cannot be read.
    """
    places, options = _parse(name)
    for server in {place.split("/", 3)[2]: place for place in places if is_url(place)}.values():
        require_server(server)
    files = [_look(place, options, labels) for place in places]
    counts = [sum(each.group_rows) for each in files]
    texts = [label for each in files for label in each.labels]
    if not texts:
        raise DataError(f"parquet:{name} holds no rows.")
    names = read_class_names(options.get("classes", "")) or _names_of(files, name)
    class_names, known = label_rows(texts, names, f"parquet:{name}")
    used = (known >= 0) | (not labels)
    if not used.any():
        raise DataError(f"parquet:{name} holds no row with a label.")
    every = build_encoded_images(class_names, known, _contents(files))
    splits = np.repeat([split_in(each.place) for each in files], counts)
    chosen = {split: used & (splits == split) for split in ("train", "validation", "test")}
    without = int((~used).sum())
    return ImageSplits(
        class_names=class_names,
        train=every.select(chosen["train"]),
        validation=every.select(chosen["validation"]) if chosen["validation"].any() else None,
        test=every.select(chosen["test"]) if chosen["test"].any() else None,
        notes=(f"Rows without a label passed over: {without}.",) if without else (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What is known of a file without its images; labels are texts, "" for none."""

    place: str
    key: str
    column: str
    group_rows: tuple[int, ...]
    labels: list[str]
    class_names: tuple[str, ...]


def _parse(name: str) -> tuple[list[str], dict[str, str]]:
    rest, options = split_options(name, OPTIONS)
    found: list[str] = []
    for each in expand_braces(rest):
        place = each if is_url(each) else str(Path(each).expanduser())
        if not is_url(place) and Path(place).is_dir():
            place = f"{Path(place).absolute()}/**/*.parquet"
        listed = find_places(str(Path(place).absolute()) if not is_url(place) else place) if "*" in place else [place]
        if not listed or (not is_url(listed[0]) and not Path(listed[0]).is_file()):
            raise UsageError(f"There is no Parquet file {place}; name a file, a folder or a pattern.")
        found.extend(listed)
    return found, options


def _look(place: str, options: dict[str, str], with_labels: bool) -> _File:
    with open_parquet(place) as opened:
        schema = opened.schema_arrow
        images = [name for name in schema.names if _holds_images(schema.field(name).type)]
        image = _choose(place, images, options.get("image", ""), _IMAGES, "image") if images else ""
        if not image:
            raise DataError(f"{place} has no column of images, but {', '.join(map(str, schema.names[:10]))}.")
        groups = tuple(opened.metadata.row_group(each).num_rows for each in range(opened.num_row_groups))
        values: list[Any] = [None] * sum(groups)
        names: tuple[str, ...] = ()
        if with_labels:
            others = [name for name in schema.names if name != image]
            label = _choose(place, others, options.get("label", ""), _LABELS, "label")
            values = opened.read(columns=[label]).column(label).to_pylist()
            names = class_names_of(schema, label)
    length, state = describe_place(place)
    whole = place if is_url(place) else str(Path(place).absolute())
    key = hashlib.sha256(os.fsencode(f"{whole}|{length}|{state}|{image}")).hexdigest()
    labels = [_label(value) for value in values]
    return _File(place=place, key=key, column=image, group_rows=groups, labels=labels, class_names=names)


def _holds_images(kind: Any) -> bool:
    """Return whether a column's type is bytes, or a struct with a field of bytes."""
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: binary" in text)


def _choose(place: str, names: Sequence[str], asked: str, usual: Sequence[str], option: str) -> str:
    if asked:
        if asked not in names:
            raise UsageError(f"{place} has no column {asked!r} for the {option}.{nearest_names(asked, names)}")
        return asked
    found = next((name for name in usual if name in names), names[0] if len(names) == 1 else "")
    if not found:
        raise UsageError(
            f"{place} has the columns {', '.join(map(str, names[:10])) or 'of images alone'}; say which is the "
            f"{option} with ?{option}=COLUMN."
        )
    return found


def _label(value: Any) -> str:
    """Return a label as text; the hub writes -1 where a label is kept secret."""
    if value is None or isinstance(value, (float, bytes, list, dict)) or (isinstance(value, int) and value < 0):
        return ""
    return str(value).strip()


def _names_of(files: Sequence[_File], name: str) -> tuple[str, ...]:
    found = {each.class_names for each in files if each.class_names}
    if len(found) > 1:
        raise DataError(f"The files of parquet:{name} name their classes differently; open them one by one.")
    return next(iter(found), ())


def _contents(files: Sequence[_File]) -> ParquetContents:
    counts = [len(each.group_rows) for each in files]
    return ParquetContents(
        places=tuple(each.place for each in files),
        keys=tuple(each.key for each in files),
        columns=tuple(each.column for each in files),
        starts=np.cumsum([0, *(rows for each in files for rows in each.group_rows)]),
        in_file=np.repeat(np.arange(len(files), dtype=np.int32), counts),
        first_groups=np.cumsum([0, *counts[:-1]]).astype(np.int32),
    )


def _unpack(place: str, group: int, column: str, path: Path) -> None:
    """Write the ends of a group's images as int64, and the images one after the other."""
    with open_parquet(place) as opened:
        values = opened.read_row_group(group, columns=[column]).column(column).combine_chunks()
    if str(values.type).startswith("struct<"):
        values = values.field("bytes")
    images = [value.as_py() or b"" for value in values]
    if not any(images):
        raise DataError(
            f"The column {column!r} of {place} holds no bytes, but perhaps paths: write the images into the file, or "
            f"name the column of paths with table:{place}?path=COLUMN."
        )
    ends = np.cumsum([len(each) for each in images], dtype="<i8")
    with write_whole(path, size=ends.nbytes + sum(map(len, images))) as temporary, temporary.open("wb") as stream:
        stream.write(ends.tobytes())
        stream.writelines(images)


@functools.lru_cache(maxsize=_GROUPS_KEPT)
def _ends(path: Path, count: int) -> NDArray[np.int64]:
    with reading(path):
        return np.fromfile(path, dtype="<i8", count=count)
