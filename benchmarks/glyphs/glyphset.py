"""A labelled set of small grey glyph images in one .npz, and the classes it has."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.writing import write_whole

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")

# Twenty superclasses of five characters each. Characters that many fonts draw alike (O and 0, l and I, Greek and Latin
# capitals) are left out, so that a label is never a matter of taste.
SUPERCLASSES: dict[str, str] = {
    "digits-low": "01234",
    "digits-high": "56789",
    "upper-a": "ABDEF",
    "upper-g": "GHJKL",
    "upper-m": "MNPQR",
    "upper-t": "TUVYZ",
    "lower-a": "abdeh",
    "lower-f": "fgijq",
    "lower-n": "nmrty",
    "greek-a": "αβγδε",
    "greek-z": "ζηθλμ",
    "greek-x": "ξπρστ",
    "greek-f": "φχψωΩ",
    "cyrillic-b": "бгджЖ",
    "cyrillic-i": "ийлпф",
    "cyrillic-c": "цчшщъ",
    "cyrillic-y": "ыэюяЯ",
    "signs": "&@#%$",
    "marks": "?!€£§",
    "maths": "+÷×=±",
}
CHARACTERS = "".join(SUPERCLASSES.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class GlyphSet:
    """Glyph images with what is known of each.

    `images` is uint8 (N, H, W), white on black; `labels` (N,) indexes `class_names`; `family` (N,) numbers the font
    family an image was drawn with; `split` (N,) is 0 train, 1 validation, 2 test, the same for all images of a family.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.integer[Any]]
    class_names: tuple[str, ...]
    family: NDArray[np.integer[Any]]
    split: NDArray[np.integer[Any]]

    def __len__(self) -> int:
        return len(self.images)

    def only(self, class_names: str) -> "GlyphSet":
        """Keep the images of some one-character classes, relabelled in the order given."""
        positions = [self.class_names.index(name) for name in class_names]
        kept = np.isin(self.labels, positions)
        renumbered = np.zeros(len(self.class_names), np.uint8)
        renumbered[positions] = np.arange(len(positions))
        return GlyphSet(
            images=self.images[kept],
            labels=renumbered[self.labels[kept]],
            class_names=tuple(class_names),
            family=self.family[kept],
            split=self.split[kept],
        )


def read_glyphs(path: Path) -> GlyphSet:
    """Read a set that `write_glyphs` wrote.

    Raises:
        DataError: the file is no .npz or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return GlyphSet(
                images=arrays["images"],
                labels=arrays["labels"],
                class_names=tuple(str(name) for name in arrays["class_names"]),
                family=arrays["family"],
                split=arrays["split"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a glyph set: {error}. Make one with benchmarks.glyphs.render.") from error


def write_glyphs(path: Path, glyphs: GlyphSet) -> None:
    """Write a set as .npz, with the superclass of each class where all of its characters have one."""
    arrays = {
        "images": glyphs.images,
        "labels": glyphs.labels,
        "class_names": np.array(glyphs.class_names),
        "family": glyphs.family,
        "split": glyphs.split,
    }
    superclass_of = {character: name for name, members in SUPERCLASSES.items() for character in members}
    if all(name in superclass_of for name in glyphs.class_names):
        arrays["superclass"] = np.array([superclass_of[name] for name in glyphs.class_names])
    write_npz(path, arrays)


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays as an .npz that np.load reads, compressed with bzip2.

    On these images bzip2 needs 14 % less room than the deflate of np.savez_compressed. Entries carry no time, so the
    same arrays give the same bytes.
    """
    with write_whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_BZIP2
            with archive.open(entry, "w") as stream:
                npy_format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
