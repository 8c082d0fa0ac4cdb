"""Files beside the images that are not used, each with the reason, and how a person is told of them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedistill_deploy.errors import first_names

_HEIC = (".heic", ".heif", ".hif")
_RAW = (
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2",
    ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_OTHER_PICTURES = (
    ".ai", ".eps", ".exr", ".hdr", ".ico", ".jxl", ".jxr", ".psd", ".svg", ".tga", ".xcf",
)  # fmt: skip
_VIDEO = (
    ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".webm", ".wmv",
)  # fmt: skip
_OF_THE_SYSTEM = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedFile:
    """A file in the folder of a class, or among images without a label, that is not used.

    Attributes:
        path: where it is.
        reason: why, in words that are the same for all files with this reason.
        class_name: the class whose folder holds it; "" for no class.
        lost: it looks like a picture of its class, and no other file has that picture.
        split: "train", "validation" or "test"; empty where that is not known.
    """

    path: str
    reason: str
    class_name: str
    lost: bool = True
    split: str = ""


def skip_by_name(path: Path, class_name: str, images: Iterable[str]) -> SkippedFile | None:
    """Judge a file whose name is not that of an image; None for a file that the system put there.

    `images` are the names, without suffix, of the images in the same folder: cameras write one picture in two formats.
    """
    name = path.name.lower()
    if name in _OF_THE_SYSTEM:
        return None
    kind, lost = _kind(path.suffix.lower())
    if lost and path.stem in images:
        kind, lost = f"{kind}, beside an image of the same name", False
    return SkippedFile(path=str(path), reason=kind, class_name=class_name, lost=lost)


def is_lost_picture(name: str) -> bool:
    """Return whether a name is that of a picture in a format that is not read."""
    return _kind(Path(name).suffix.lower())[1]


def _kind(suffix: str) -> tuple[str, bool]:
    if suffix in _HEIC:
        return "HEIC (pip install pillow-heif, or save as JPEG)", True
    if suffix in _RAW:
        return f"raw photograph ({suffix}; save as JPEG)", True
    if suffix in _OTHER_PICTURES:
        return f"format that is not read ({suffix}; save as PNG)", True
    return (f"video ({suffix})", False) if suffix in _VIDEO else (f"no image ({suffix or 'no suffix'})", False)


def describe_skipped(files: Sequence[SkippedFile]) -> str:
    """Return the reasons, the most frequent first, each with how many files and the names of three."""
    counts = Counter(each.reason for each in files)
    return "; ".join(f"{count} {reason}: {_examples(files, reason)}" for reason, count in counts.most_common())


def _examples(files: Sequence[SkippedFile], reason: str) -> str:
    return first_names([Path(each.path).name for each in files if each.reason == reason], 3)
