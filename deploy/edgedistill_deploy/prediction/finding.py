"""The images that a user names: files, folders, and patterns such as "photos/**/*.jpg"."""

import glob
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.decode import SUFFIXES
from edgedistill_deploy.images.folder import list_pictures
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped, skip_by_name


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundImages:
    """Files in the order in which they were named, each once.

    `named` are those that the user named one by one: each of them must be readable. `skipped` are files in the folders
    that are no images.
    """

    paths: tuple[Path, ...]
    named: frozenset[Path]
    skipped: tuple[SkippedFile, ...] = ()


def find_images(words: Sequence[str], besides: Collection[Path] = ()) -> FoundImages:
    """Find the images of each word: a file, all images at or below a folder, or what a pattern finds.

    A file of this name counts before a pattern. What lies below the folders `besides` is left out, unless it is named
    one by one. Raises DataError where a word finds nothing.
    """
    paths: dict[Path, None] = {}
    named: set[Path] = set()
    skipped: list[SkippedFile] = []
    for word in words:
        path = Path(word)
        if not os.path.lexists(path):
            found, passed = _matching(word)
        elif path.is_dir():
            found, passed = _in_folders([path])
        else:
            found, passed = [path], []
            named.add(path)
        paths.update(dict.fromkeys(found))
        skipped.extend(passed)
    kept = tuple(path for path in paths if path in named or not any(_lies_below(path, each) for each in besides))
    return FoundImages(paths=kept, named=frozenset(named), skipped=tuple(skipped))


def _matching(word: str) -> tuple[list[Path], list[SkippedFile]]:
    """Return the images that a pattern finds; a folder that it finds stands for its images."""
    if not glob.has_magic(word):
        raise DataError(
            f"There is no image {word}; name an image, a folder, a pattern in quotes such as 'photos/*.jpg', or - for "
            "the bytes of an image on standard input."
        )
    everything = [Path(each) for each in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207  # takes absolute ones
    files = [each for each in everything if not each.is_dir()]
    found = [each for each in files if each.suffix.lower() in SUFFIXES or each.suffix in ("", Path(word).suffix)]
    others = set(files).difference(found)
    passed = [skip for each in sorted(others) if (skip := skip_by_name(each, "", ())) is not None]
    if not files and everything:
        return _in_folders(everything)
    if not found:
        there = f" Passed over: {describe_skipped(passed)}." if passed else ""
        raise DataError(f"The pattern {word} finds no image; ** stands for folders at any depth.{there}")
    return found, passed


def _in_folders(folders: Iterable[Path]) -> tuple[list[Path], list[SkippedFile]]:
    listed = [list_pictures(each) for each in folders]
    return [path for each in listed for path in each.paths], [skip for each in listed for skip in each.skipped]


def _lies_below(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
