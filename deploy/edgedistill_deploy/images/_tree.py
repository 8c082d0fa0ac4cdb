"""The folders below a source, each listed once, without those that systems and programs put there."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from edgedistill_deploy.errors import reading
from edgedistill_deploy.images._content import HEAD_BYTES, image_format_of
from edgedistill_deploy.images.decode import SUFFIXES
from edgedistill_deploy.images.skipped import is_lost_picture

# Of network storage, Windows, macOS, Linux, notebooks and programs that show photographs; compared in small letters.
_SYSTEM_FOLDERS = frozenset(
    (
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@sharebin",
        "@tmp",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "recycled",
        "system volume information",
        "found.000",
        "lost+found",
        "__macosx",
        "network trash folder",
        "temporary items",
        "__pycache__",
        "thumbnails",
        "thumbs",
        "_thumbs",
    )
)
_SETTINGS_TABLES = ("[data]", "[teacher]", "[subtask]", "[student]")
_LARGEST_SETTINGS = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds, each sorted by name: folders, image files, other files, and folders passed over.

    Images are kept by name: of a million, the paths would take a gigabyte.
    """

    folder: Path
    folders: tuple[Path, ...]
    image_names: tuple[str, ...]
    others: tuple[Path, ...]
    system: tuple[Path, ...]
    runs: tuple[Path, ...]

    @property
    def images(self) -> tuple[Path, ...]:
        """The paths of the image files."""
        return tuple(self.folder / name for name in self.image_names)

    @property
    def pictures(self) -> int:
        """How many files are images, or pictures in a format that is not read."""
        return len(self.image_names) + sum(is_lost_picture(each.name) for each in self.others)


class Tree:
    """Lists folders once; hidden files are left out."""

    def __init__(self) -> None:
        self._listings: dict[Path, Listing] = {}

    def listing(self, folder: Path) -> Listing:
        """Return what a folder holds. Raises DataError when it cannot be listed."""
        if folder not in self._listings:
            with reading(folder):
                self._listings[folder] = _list(folder)
        return self._listings[folder]

    def below(self, folder: Path) -> Iterator[Listing]:
        """Walk through links to folders too, but only once into each folder, because a link can lead back up."""
        visited: set[str] = set()
        waiting = [folder]
        while waiting:
            each = waiting.pop()
            real = os.path.realpath(each)
            if real not in visited:
                visited.add(real)
                found = self.listing(each)
                waiting.extend(reversed(found.folders))
                yield found

    def pictures_below(self, folder: Path) -> int:
        """Return how many pictures a folder and its folders hold."""
        return sum(each.pictures for each in self.below(folder))

    def folders_with_pictures(self, folder: Path) -> list[Path]:
        """Return the folders directly below that hold pictures at any depth."""
        return [each for each in self.listing(folder).folders if self.pictures_below(each)]

    def passed_over(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the folders of systems, and the run folders, that were met so far at or below a folder."""
        met = [found for path, found in self._listings.items() if path == folder or folder in path.parents]
        return [each for found in met for each in found.system], [each for found in met for each in found.runs]


def count_images(folder: Path) -> int:
    """Return how many files below a folder that is passed over have the name of an image."""
    return sum(has_image_suffix(name) for _, _, files in os.walk(folder) for name in files)


def has_image_suffix(name: str) -> bool:
    """Return whether a name ends like that of an image, in large or small letters."""
    return PurePath(name).suffix.lower() in SUFFIXES


def _list(folder: Path) -> Listing:
    folders: list[Path] = []
    images: list[str] = []
    others: list[Path] = []
    system: list[Path] = []
    runs: list[Path] = []
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        if entry.is_dir():
            path = folder / entry.name
            hidden = entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FOLDERS
            (system if hidden else runs if _is_run_folder(path) else folders).append(path)
        elif not entry.name.startswith(".") and entry.is_file():
            if _is_image(folder, entry.name):
                images.append(entry.name)
            else:
                others.append(folder / entry.name)
    return Listing(folder, tuple(folders), tuple(images), tuple(others), tuple(system), tuple(runs))


def _is_image(folder: Path, name: str) -> bool:
    return has_image_suffix(name) or (not PurePath(name).suffix and bool(image_format_of(_head(folder / name))))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(HEAD_BYTES)
    except OSError:  # nothing can be said about it
        return b""


def _is_run_folder(folder: Path) -> bool:
    """Return whether a folder is one that a run fills: by what it holds, since its name is the user's choice."""
    settings = _read_small(folder / "settings.toml")
    if all(f"\n{table}\n" in f"\n{settings}\n" for table in _SETTINGS_TABLES):
        return True
    try:
        manifest = json.loads(_read_small(folder / "manifest.json"))
    except (ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("kind") == "bundle"


def _read_small(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST_SETTINGS:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
