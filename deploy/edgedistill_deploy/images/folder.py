"""Images in folders: a folder for each class, alone or below train/, val/ and test/."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.classes.spelling import compose_name
from edgedistill_deploy.errors import DataError, reading
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.decode import SUFFIXES, read_image
from edgedistill_deploy.images.sets import ImageSplits, Indices, Labels, frozen_labels, positions, select_classes

SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}

Files = Mapping[str, tuple[Path, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FolderImages:
    """Image files with a label each; each file is read at its first use."""

    class_names: tuple[str, ...]
    labels: Labels = field(repr=False)
    paths: tuple[Path, ...] = field(repr=False)
    _digests: dict[Path, str] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Image.Image:
        """Return an image as RGB; DataError names the file that cannot be read."""
        return read_image(self.paths[index])

    def digest(self, index: int) -> str:
        """Return the sha256 of the file's bytes; DataError when it cannot be read."""
        path = self.paths[index]
        if path not in self._digests:
            with reading(path):
                self._digests[path] = sha256_of_file(path)
        return self._digests[path]

    def name(self, index: int) -> str:
        """Return the path as `printable` text."""
        return printable(str(self.paths[index]))

    def select(self, indices: Indices) -> "FolderImages":
        """Return the files at these positions."""
        rows = positions(indices)
        return self._restrict_to(self.class_names, rows, frozen_labels(self.labels[rows]))

    def with_classes(self, class_names: Sequence[str]) -> "FolderImages":
        """Keep only these classes, relabelled in this order."""
        return self._restrict_to(class_names, *select_classes(self.labels, self.class_names, class_names))

    def rename_classes(self, class_names: Sequence[str]) -> "FolderImages":
        """Give the classes these names, one for each class."""
        return replace(self, class_names=tuple(class_names))

    def _restrict_to(self, class_names: Sequence[str], rows: NDArray[np.int64], labels: Labels) -> "FolderImages":
        paths = tuple(self.paths[row] for row in rows)
        return replace(self, class_names=tuple(class_names), labels=labels, paths=paths)


def open_folder(root: Path) -> ImageSplits:
    """List the images below a folder, sorted by name, and label them by their class folders.

    Hidden files and files without the suffix of an image are ignored. Raises DataError where there are no class
    folders, no images, or a class without images.
    """
    folders = _subfolders(root)
    split_folders = [folder for folder in folders if _is_split(folder)]
    if not split_folders:
        return _build_splits({"train": _class_files(root)}, root)
    stray = [folder for folder in folders if folder not in split_folders and _images_below(folder)]
    if stray:
        raise DataError(
            f"{root} holds split folders ({split_folders[0].name}) beside a folder of images ({stray[0].name}); move "
            "it into one of the splits or out of the way."
        )
    return _build_splits(_split_files(split_folders), root)


def _is_split(folder: Path) -> bool:
    """Return whether a folder is a split, which holds class folders; a class named "train" holds images."""
    return folder.name.lower() in SPLIT_OF_FOLDER and bool(_subfolders(folder)) and not _images_in(folder)


def _split_files(folders: list[Path]) -> dict[str, Files]:
    splits: dict[str, Files] = {}
    for folder in folders:
        split = SPLIT_OF_FOLDER[folder.name.lower()]
        if split in splits:
            raise DataError(
                f"{folder.parent} holds two folders for the {split} split; keep one, {folder.name} or the other."
            )
        splits[split] = _class_files(folder)
    return splits


def _class_files(folder: Path) -> Files:
    classes = _subfolders(folder)
    if not classes:
        raise DataError(
            f"{folder} holds no class folders; put the images of each class in a folder of its "
            f"name.{_describe_passed_over(folder)}"
        )
    files: dict[str, tuple[Path, ...]] = {}
    for each in classes:
        name = compose_name(each.name)
        files[name] = (*files.get(name, ()), *_images_below(each))
    return files


def _build_splits(splits: Mapping[str, Files], root: Path) -> ImageSplits:
    names = tuple(sorted({name for files in splits.values() for name in files}))
    _require_images(splits, names, root)
    sets = {split: _build_set(files, names) for split, files in splits.items()}
    return ImageSplits(
        class_names=names,
        train=sets.get("train") or _build_set({}, names),
        validation=sets.get("validation") or None,
        test=sets.get("test") or None,
    )


def _build_set(files: Files, names: tuple[str, ...]) -> FolderImages:
    pairs = [(path, label) for label, name in enumerate(names) for path in files.get(name, ())]
    return FolderImages(
        class_names=names, labels=frozen_labels([label for _, label in pairs]), paths=tuple(path for path, _ in pairs)
    )


def _require_images(splits: Mapping[str, Files], names: tuple[str, ...], root: Path) -> None:
    empty = [name for name in names if not any(files.get(name) for files in splits.values())]
    if len(empty) == len(names):
        kinds = ", ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))
        raise DataError(f"The class folders of {root} hold no images ({kinds}).{_describe_passed_over(root)}")
    if empty:
        raise DataError(
            f"The class folder {empty[0]!r} of {root} holds no images; fill or remove "
            f"it.{_describe_passed_over(root, empty[0])}"
        )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir() and not _is_hidden(each.name))


def _images_in(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if _is_image(each.name) and each.is_file())


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in _files_below(folder) if _is_image(path.name))


def _files_below(folder: Path) -> Iterator[Path]:
    """Walk through links to folders too, but only once into each folder, because a link can lead back up."""
    visited: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in visited else [name for name in folders if not _is_hidden(name)]
        yield from (Path(parent, name) for name in files if real not in visited and not _is_hidden(name))
        visited.add(real)


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and Path(name).suffix.lower() in SUFFIXES


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _describe_passed_over(root: Path, below: str = "") -> str:
    """Return the end of an error message that names the files that are no images."""
    folders = (each for each in (root, *_subfolders(root)) if not below or each.name == below)
    names = sorted({path.name for each in folders for path in _files_below(each)})
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f" Files there: {listed}." if names else ""
