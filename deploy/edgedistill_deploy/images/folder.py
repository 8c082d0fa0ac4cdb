"""Images in folders: a folder for each class, alone or below train/, val/ and test/, or images without a label."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedistill_deploy.errors import DataError, first_names
from edgedistill_deploy.images._layout import ClassFolders, Layout, describe_system_folders, read_layout
from edgedistill_deploy.images._tree import Listing, Tree
from edgedistill_deploy.images.decode import SUFFIXES
from edgedistill_deploy.images.encoded.paths import pack_files
from edgedistill_deploy.images.encoded.sets import EncodedImages, build_encoded_images
from edgedistill_deploy.images.sets import NO_LABEL, ImageSplits
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped, skip_by_name

_KINDS_OF_FILES = {".tar": "wds", ".parquet": "parquet"}  # a source for a folder of such files

Files = Mapping[str, list[tuple[Path, str]]]  # of each class in order: folder and name


def open_folder(root: Path) -> ImageSplits:
    """List the images below a folder, sorted by name, and label them by their class folders.

    Class folders stand in the folder itself, below train/, val/ and test/, or above these, and all of that may stand
    one or more folders deeper. Images in no class folder have no label: in a folder or a split that has no class
    folders, and in train/ beside these. Notes say how the folders were understood and what was passed over. Hidden
    files and folders, folders of systems and run folders are left out; `skipped` names the other files that are not
    used.

    Raises DataError where there are no images, and where the folders can mean two things.
    """
    tree = Tree()
    layout = read_layout(root, tree)
    found = {split: _images_of(classes, tree) for split, classes in layout.splits.items()}
    loose = {
        split: [(folder, name) for name in tree.listing(folder).image_names] for split, folder in layout.loose.items()
    }
    if not any(loose.values()) and not any(files for classes in found.values() for files in classes.values()):
        raise DataError(_describe_nothing(root, tree))
    names = tuple(sorted({name for classes in layout.splits.values() for name in classes}))
    sets = {split: _build_set(found.get(split, {}), names, loose.get(split, ())) for split in {**found, **loose}}
    return ImageSplits(
        class_names=names,
        train=sets.get("train") or _build_set({}, names),
        validation=sets.get("validation") or None,
        test=sets.get("test") or None,
        notes=layout.notes,
        skipped=_find_skipped(layout, tree),
        empty=layout.empty,
        in_folders=True,
    )


def open_unsorted(root: Path) -> ImageSplits:
    """List all images below a folder at any depth, sorted by path; none has a label, whatever the folders are called.

    Hidden files and folders, folders of systems and run folders are left out, as in `open_folder`.

    Raises DataError where there are no images.
    """
    tree = Tree()
    listings = list(tree.below(root))
    images = list(_in_order((root,), tree))
    if not images:
        raise DataError(_describe_nothing(root, tree))
    return ImageSplits(
        class_names=(),
        train=_build_set({}, (), images),
        notes=describe_system_folders(root, tree),
        skipped=tuple(skipped for each in listings for skipped in _skipped_in(each, "", "train")),
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
        raise DataError(_describe_nothing(root, tree, as_source=False))
    return Pictures(paths=paths, skipped=tuple(skipped for each in found for skipped in _skipped_in(each, "", "")))


def _images_of(classes: ClassFolders, tree: Tree) -> Files:
    return {name: list(_in_order(folders, tree)) for name, folders in classes.items()}


def _in_order(folders: tuple[Path, ...], tree: Tree) -> Iterator[tuple[Path, str]]:
    """Yield the images of a class in the order of their paths; images and folders beside them may take turns."""
    listings = [each for folder in folders for each in tree.below(folder) if each.image_names]
    if len(listings) > 1:
        places = {each.folder: each.folder.parts for each in listings}
        yield from sorted(
            ((each.folder, name) for each in listings for name in each.image_names),
            key=lambda file: (*places[file[0]], file[1]),
        )
    elif listings:
        yield from ((listings[0].folder, name) for name in listings[0].image_names)


def _find_skipped(layout: Layout, tree: Tree) -> tuple[SkippedFile, ...]:
    return tuple(
        skipped
        for split, classes in layout.splits.items()
        for name, folders in classes.items()
        for folder in folders
        for each in tree.below(folder)
        for skipped in _skipped_in(each, name, split)
    ) + tuple(
        skipped for split, folder in layout.loose.items() for skipped in _skipped_in(tree.listing(folder), "", split)
    )


def _skipped_in(listing: Listing, class_name: str, split: str) -> list[SkippedFile]:
    images = {path.stem for path in listing.images} if listing.others else set()
    judged = (skip_by_name(path, class_name, images) for path in listing.others)
    return [replace(each, split=split) for each in judged if each is not None]


def _build_set(files: Files, names: tuple[str, ...], loose: Sequence[tuple[Path, str]] = ()) -> EncodedImages:
    by_label = [*(files.get(name, []) for name in names), loose]
    labels = np.repeat([*range(len(names)), NO_LABEL], list(map(len, by_label)))
    return build_encoded_images(names, labels, pack_files(itertools.chain.from_iterable(by_label)))


def _describe_nothing(root: Path, tree: Tree, *, as_source: bool = True) -> str:
    """Return the message for a folder without images in class folders; it names the files that are there.

    Of a source of images, it says how to name one that these files would be.
    """
    others = sorted(path for each in tree.below(root) for path in each.others)
    hint = _other_sources(others) if as_source else ""
    return f"{root} and its folders hold no images ({_kinds()}).{_files_there(root, tree)}{hint}"


def _kinds() -> str:
    return ", ".join(sorted(suffix.lstrip(".") for suffix in SUFFIXES))


def _files_there(root: Path, tree: Tree) -> str:
    """Name files below a folder without images, and say why those that look like pictures are not read."""
    listings = list(tree.below(root))
    others = sorted({path for each in listings for path in each.others})
    names = sorted({path.name for each in listings for path in (*each.images, *each.others)})
    end = f" Files there: {first_names(names, 5)}." if names else ""
    lost = [each for path in others if (each := skip_by_name(path, "", ())) is not None and each.lost]
    return end + (f" Not read: {describe_skipped(lost)}." if lost else "")


def _other_sources(files: Sequence[Path]) -> str:
    """Say how files that hold many images are named as a source; "" where there are none."""
    first = {path.suffix.lower(): path.parent for path in reversed(files)}
    named = [f"{kind}:{first[suffix]}" for suffix, kind in _KINDS_OF_FILES.items() if suffix in first]
    return f" Images inside such files are read from {' or '.join(named)}." if named else ""
