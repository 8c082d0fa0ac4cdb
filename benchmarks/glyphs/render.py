"""Render a glyph set from the fonts that are installed.

    python -m benchmarks.glyphs.render glyphs.npz

Every picture is a character of one font, slightly rotated, sheared, scaled and shifted. What is drawn depends on the
seed, the font's name and the character alone, and a family's split on the family's name alone: other fonts beside it
change nothing.
"""

import argparse
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.glyphs.fonts import SYSTEM_FOLDERS, FontFile, draw_ink, find_font_files, load_font, survey_fonts
from benchmarks.glyphs.glyphset import CHARACTERS, SPLIT_NAMES, TEST, TRAIN, VALIDATION, GlyphSet, write_glyphs
from edgedistill_deploy.errors import DataError, UsageError

Progress = Callable[[int, int], None]
OVERSAMPLING = 4
MARGIN = 1  # pixels kept free on each side


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderConfig:
    """How a set is drawn.

    Lengths are in pixels of the finished image, `size` is the side of the square image; the em of the font is drawn
    between `smallest_em` and `largest_em` sides high. At most `fonts_per_family` members of a family are used.
    """

    characters: str = CHARACTERS
    size: int = 32
    fonts_per_family: int = 2
    smallest_em: float = 0.75
    largest_em: float = 1.05
    rotation_degrees: float = 8.0
    shear: float = 0.15
    shift: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if len(set(self.characters)) != len(self.characters) or not self.characters:
            raise UsageError(f"The characters must be distinct and at least one, and were {self.characters!r}.")
        if self.size < 8 or self.fonts_per_family < 1:
            raise UsageError(
                f"The image side must be at least 8 and the fonts per family at least 1, and were {self.size} and"
                f" {self.fonts_per_family}."
            )


def _fraction(*parts: object) -> float:
    """Hash parts to a number in [0, 1) that is the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def split_of_family(family: str) -> int:
    """Return the split of a family: train for 60 %, validation for 20 %, test for 20 % of all names."""
    place = _fraction("split", family)
    return TRAIN if place < 0.6 else VALIDATION if place < 0.8 else TEST


def draw_glyph(font: FontFile, character: str, config: RenderConfig) -> NDArray[np.uint8] | None:
    """Draw one picture, uint8 (size, size); None when the font draws nothing at this size."""
    seed = int(_fraction(config.seed, font.family, font.path.name, character) * 2**48)
    random = np.random.default_rng(seed)
    em = config.size * random.uniform(config.smallest_em, config.largest_em)
    ink = draw_ink(load_font(font.path, round(em * OVERSAMPLING)), character)
    if ink is None:
        return None
    angle = math.radians(random.uniform(-config.rotation_degrees, config.rotation_degrees))
    shear = random.uniform(-config.shear, config.shear)
    shift = random.uniform(-config.shift, config.shift, 2)
    return np.asarray(_place(ink, config.size, angle, shear, (float(shift[0]), float(shift[1]))))


def _place(ink: Image.Image, size: int, angle: float, shear: float, shift: tuple[float, float]) -> Image.Image:
    """Turn and shear ink about its centre, shrink it if it would not fit, put it near the middle of a square."""
    cos, sin = math.cos(angle), math.sin(angle)
    forward = np.array([[cos, shear * cos - sin], [sin, shear * sin + cos]])
    extent = np.abs(forward) @ np.array(ink.size, float) / OVERSAMPLING
    shrink = min(1.0, (size - 2 * MARGIN) / extent.max())
    room = (size - 2 * MARGIN - extent * shrink) / 2
    centre = size / 2 + np.clip(shift, -room, room)
    backward = np.linalg.inv(forward * shrink)
    offset = np.array(ink.size) / 2 - backward @ (centre * OVERSAMPLING)
    side = size * OVERSAMPLING
    data = (*backward[0], offset[0], *backward[1], offset[1])
    placed = ink.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=0)
    return placed.reduce(OVERSAMPLING)


def _chosen_fonts(fonts: Iterable[FontFile], config: RenderConfig) -> dict[str, list[FontFile]]:
    """Group fonts by family, at most so many of each, chosen by the seed and their names."""
    families: dict[str, list[FontFile]] = defaultdict(list)
    for font in fonts:
        families[font.family].append(font)
    return {
        family: sorted(families[family], key=lambda font: _fraction(config.seed, font.path.name))[
            : config.fonts_per_family
        ]
        for family in sorted(families)
    }


def render_glyphs(
    fonts: Sequence[FontFile], config: RenderConfig | None = None, progress: Progress | None = None
) -> GlyphSet:
    """Draw every character of every chosen font once.

    Raises:
        DataError: no font draws any of the characters.
    """
    config = config or RenderConfig()
    families = _chosen_fonts(fonts, config)
    images, labels, numbers, splits = [], [], [], []
    for number, (family, members) in enumerate(families.items()):
        for font in members:
            for character in font.characters:
                image = draw_glyph(font, character, config)
                if image is not None:
                    images.append(image)
                    labels.append(config.characters.index(character))
                    numbers.append(number)
                    splits.append(split_of_family(family))
        if progress:
            progress(number + 1, len(families))
    if not images:
        raise DataError("No font draws any of the characters: install some, for instance apt-get install fonts-lato.")
    return GlyphSet(
        images=np.stack(images),
        labels=np.array(labels, np.uint8),
        class_names=tuple(config.characters),
        family=np.array(numbers, np.uint16),
        split=np.array(splits, np.uint8),
    )


def main() -> None:
    defaults = RenderConfig()
    parser = argparse.ArgumentParser(description="Render a glyph set from installed fonts.")
    parser.add_argument("out", type=Path, help="the .npz to write")
    parser.add_argument("--fonts", type=Path, nargs="+", default=list(SYSTEM_FOLDERS), help="font folders to search")
    parser.add_argument("--fonts-per-family", type=int, default=defaults.fonts_per_family)
    parser.add_argument("--size", type=int, default=defaults.size, help="side of the images, in pixels")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    options = parser.parse_args()
    config = RenderConfig(size=options.size, fonts_per_family=options.fonts_per_family, seed=options.seed)
    fonts = survey_fonts(find_font_files(options.fonts), config.characters)
    glyphs = render_glyphs(fonts, config)
    write_glyphs(options.out, glyphs)
    print(f"{len(glyphs):,} images of {len(set(glyphs.family.tolist()))} families in {options.out}")
    for split, name in enumerate(SPLIT_NAMES):
        print(f"{name}: {int((glyphs.split == split).sum()):,}")


if __name__ == "__main__":
    main()
