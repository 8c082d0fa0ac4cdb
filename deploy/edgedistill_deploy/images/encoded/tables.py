"""Images that a table lists: a CSV or Parquet file with a column of paths and a column of labels."""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from edgedistill_deploy.errors import DataError, UsageError, nearest_names
from edgedistill_deploy.files.places import is_url
from edgedistill_deploy.files.text import read_text
from edgedistill_deploy.images.encoded._class_names import label_rows, read_class_names
from edgedistill_deploy.images.encoded._parquet_files import read_columns
from edgedistill_deploy.images.encoded._split_names import split_named
from edgedistill_deploy.images.encoded.paths import pack_files
from edgedistill_deploy.images.encoded.patterns import split_options
from edgedistill_deploy.images.encoded.sets import build_encoded_images
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.skipped import SkippedFile

SUFFIXES = (".csv", ".tsv")  # of files that mean a table without "table:"
OPTIONS = ("path", "label", "split", "classes")
_MOST_BYTES = 1 << 30
# Names of columns, in the order in which they are looked for; compared in small letters.
_PATHS = (
    "path", "file_path", "filepath", "image_path", "img_path", "file_name", "filename", "file", "image", "img",
)  # fmt: skip
_LABELS = ("label", "class", "class_name", "label_name", "category", "target")
_SPLITS = ("split", "subset", "set")
_MISSING = "missing (the table names it)"
_Choose = Callable[[Sequence[str]], tuple[str, str, str]]  # from the header to the columns of paths, labels and splits


@dataclass(frozen=True, slots=True)
class _Row:
    path: str
    label: str
    split: str


def open_table(name: str, *, labels: bool = True) -> ImageSplits:
    """Open "FILE" or "FILE?path=COLUMN&label=COLUMN&split=COLUMN&classes=FILE", a CSV, TSV or Parquet file.

    Columns are found by their names if they are not given. Paths are relative to the folder of the table, or absolute.
    A label is a name, or a number that the file of `classes` names. A column `split` says train, val or test; without
    one, all rows are `train`. Files that are missing are skipped. Without `labels`, there need be no column of labels,
    all rows with a path count, and none has a label.

    Raises UsageError for a column that is not there, DataError for a table without a usable row.
    """
    path, options = _parse(name)
    rows = _read(path, options, labels)
    whole = [row for row in rows if row.path and (row.label or not labels)]
    if not whole:
        raise DataError(
            f"{path} has {len(rows)} rows, and none has {'both a path and a label' if labels else 'a path'}."
        )
    if is_url(whole[0].path):
        raise DataError(f"{path} lists web addresses such as {whole[0].path}; fetch the images, and list their files.")
    names = read_class_names(options.get("classes", ""))
    class_names, known = label_rows([row.label for row in whole], names, str(path))
    files = [_file(path.parent, row.path) for row in whole]
    there = np.array([os.path.isfile(each) for each in files], dtype=np.bool_)  # noqa: PTH113  # false for odd names too
    if not there.any():
        raise DataError(f"None of the {len(files)} files that {path} lists is there, such as {files[0]}.")
    every = build_encoded_images(class_names, known, pack_files((each.parent, each.name) for each in files))
    splits = np.array([_split(row.split, path) for row in whole])
    chosen = {split: there & (splits == split) for split in ("train", "validation", "test")}
    return ImageSplits(
        class_names=class_names,
        train=every.select(chosen["train"]),
        validation=every.select(chosen["validation"]) if chosen["validation"].any() else None,
        test=every.select(chosen["test"]) if chosen["test"].any() else None,
        notes=_notes(path, len(rows) - len(whole), "a path or a label" if labels else "a path"),
        skipped=tuple(
            SkippedFile(path=str(files[row]), reason=_MISSING, class_name=class_names[known[row]] if labels else "")
            for row in np.flatnonzero(~there)
        ),
    )


def _parse(name: str) -> tuple[Path, dict[str, str]]:
    rest, options = split_options(name, OPTIONS)
    return Path(rest).expanduser(), options


def _read(path: Path, options: dict[str, str], with_labels: bool) -> list[_Row]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UsageError(f"The table {path} {what}; name a CSV, TSV or Parquet file.")
    read = _read_parquet if path.suffix.lower() in (".parquet", ".pq") else _read_csv
    paths, labels, splits = read(path, lambda header: _columns(path, header, options, with_labels))
    nothing = [""] * len(paths)
    return [_Row(*row) for row in zip(paths, labels or nothing, splits or nothing, strict=True)]


def _read_csv(path: Path, choose: _Choose) -> list[list[str]]:
    text = read_text(path, "table", _MOST_BYTES)
    head = text.partition("\n")[0]
    rows = csv.reader(io.StringIO(text), delimiter=max(",;\t", key=head.count))
    try:
        header = next(rows, [])
        places = [header.index(name) if name else -1 for name in choose(header)]
        read: list[list[str]] = [[], [], []]
        for row in rows:
            if row and len(row) <= max(places):
                raise DataError(f"{path}, line {rows.line_num}, has {len(row)} columns of the {len(header)} in line 1.")
            for place, column in zip(places, read, strict=True):
                if row and place >= 0:
                    column.append(row[place].strip())
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}, is no CSV: {error}.") from error
    return read


def _read_parquet(path: Path, choose: _Choose) -> list[list[str]]:
    chosen: list[str] = []

    def choose_all(header: Sequence[str]) -> list[str]:
        chosen.extend(choose(header))
        return [name for name in chosen if name]

    _, read = read_columns(path, choose_all)
    return [["" if value is None else str(value).strip() for value in read[name]] if name else [] for name in chosen]


def _columns(path: Path, header: Sequence[str], options: dict[str, str], with_labels: bool) -> tuple[str, str, str]:
    """Return the names of the columns of paths, labels and splits; "" for no labels and for no splits."""
    return (
        _column(path, header, options.get("path", ""), _PATHS, "path"),
        _column(path, header, options.get("label", ""), _LABELS, "label") if with_labels else "",
        _column(path, header, options.get("split", ""), _SPLITS, ""),
    )


def _column(path: Path, header: Sequence[str], asked: str, usual: Sequence[str], option: str) -> str:
    if asked:
        if asked not in header:
            raise UsageError(f"{path} has no column {asked!r}.{nearest_names(asked, header)}")
        return asked
    spelt = {name.strip().lower(): name for name in reversed(header)}
    found = next((spelt[name] for name in usual if name in spelt), "")
    if not found and option:
        listed = ", ".join(map(repr, header[:10])) or "nothing"
        raise UsageError(
            f"The first line of {path} names no column of {option}s ({', '.join(usual)}), but {listed}. Name the column"
            f" with table:{path.name}?{option}=COLUMN."
        )
    return found


def _file(folder: Path, text: str) -> Path:
    """Return the file that a table names, which may be written with the backslashes of Windows."""
    path = folder / text
    return folder / PureWindowsPath(text).as_posix() if "\\" in text and not os.path.isfile(path) else path  # noqa: PTH113


def _split(word: str, path: Path) -> str:
    found = split_named(word) if word else "train"
    if not found:
        raise DataError(f"{path} has the split {word!r}; a split is train, val or test.")
    return found


def _notes(path: Path, incomplete: int, lacking: str) -> tuple[str, ...]:
    return (f"Rows of {path.name} without {lacking} passed over: {incomplete}.",) if incomplete else ()
