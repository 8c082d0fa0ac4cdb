"""Images in folders: a folder for each class, alone or below train/, val/ and test/."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import DataError, reading
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images._layout import ClassFolders, Layout, read_layout
from edgedistill_deploy.images._tree import Listing, Tree
from edgedistill_deploy.images.decode import SUFFIXES, read_image
from edgedistill_deploy.images.sets import ImageSplits, Indices, Labels, frozen_labels, positions, select_classes
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped, skip_by_name

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

    Class folders stand in the folder itself, below train/, val/ and test/, or above these, and all of that may stand
    one or more folders deeper. Notes say how the folders were understood and what was passed over. Hidden files and
    folders, folders of systems and run folders are left out; `skipped` names the other files that are not used.

    Raises DataError where there are no class folders or no images, and where the folders can mean two things.
    """
    tree = Tree()
    layout = read_layout(root, tree)
    found = {split: _images_of(classes, tree) for split, classes in layout.splits.items()}
    if not any(files for classes in found.values() for files in classes.values()):
        raise DataError(_describe_nothing(root, tree))
    names = tuple(sorted({name for classes in layout.splits.values() for name in classes}))
    sets = {split: _build_set(files, names) for split, files in found.items()}
    return ImageSplits(
        class_names=names,
        train=sets.get("train") or _build_set({}, names),
        validation=sets.get("validation") or None,
        test=sets.get("test") or None,
        notes=layout.notes,
        skipped=_find_skipped(layout, tree),
        empty=layout.empty,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """The image files at or below a folder, and the other files there, each sorted by name within its folder."""

    paths: tuple[Path, ...]
    skipped: tuple[SkippedFile, ...]


def list_pictures(root: Path) -> Pictures:
    """List the images at any depth below a folder, whatever its folders mean.

    Hidden files and folders, folders of systems and run folders are left out. Raises DataError where there is no image,
    and where a folder cannot be listed.
    """
    tree = Tree()
    found = list(tree.below(root))
    paths = tuple(path for each in found for path in each.images)
    if not paths:
        raise DataError(f"{root} holds no images ({_kinds()}).{_files_there(root, tree)}")
    return Pictures(paths=paths, skipped=tuple(skipped for each in found for skipped in _skipped_in(each, "")))


def _images_of(classes: ClassFolders, tree: Tree) -> Files:
    return {
        name: tuple(sorted(path for folder in folders for each in tree.below(folder) for path in each.images))
        for name, folders in classes.items()
    }


def _find_skipped(layout: Layout, tree: Tree) -> tuple[SkippedFile, ...]:
    return tuple(
        skipped
        for classes in layout.splits.values()
        for name, folders in classes.items()
        for folder in folders
        for each in tree.below(folder)
        for skipped in _skipped_in(each, name)
    )


def _skipped_in(listing: Listing, class_name: str) -> list[SkippedFile]:
    images = {path.stem for path in listing.images} if listing.others else set()
    judged = (skip_by_name(path, class_name, images) for path in listing.others)
    return [each for each in judged if each is not None]


def _build_set(files: Files, names: tuple[str, ...]) -> FolderImages:
    pairs = [(path, label) for label, name in enumerate(names) for path in files.get(name, ())]
    return FolderImages(
        class_names=names, labels=frozen_labels([label for _, label in pairs]), paths=tuple(path for path, _ in pairs)
    )


def _describe_nothing(root: Path, tree: Tree) -> str:
    """Return the message for a folder without images in class folders; it names the files that are there."""
    if not tree.listing(root).folders:
        there = _names_there(root, tree)
        return f"{root} holds no class folders; put the images of each class in a folder of its name.{there}"
    return f"The class folders of {root} hold no images ({_kinds()}).{_files_there(root, tree)}"


def _kinds() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))


def _files_there(root: Path, tree: Tree) -> str:
    """Name files below a folder without images, and say why those that look like pictures are not read."""
    others = sorted({path for each in tree.below(root) for path in each.others})
    lost = [each for path in others if (each := skip_by_name(path, "", ())) is not None and each.lost]
    return _names_there(root, tree) + (f" Not read: {describe_skipped(lost)}." if lost else "")


def _names_there(root: Path, tree: Tree) -> str:
    names = sorted({path.name for each in tree.below(root) for path in (*each.images, *each.others)})
    listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return f" Files there: {listed}." if names else ""
