"""Pictures of maps: the image, then the relevance for the teacher and for the student, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.files.writing import write_whole

_SIDE = 192  # pixels of the longer side of each tile
_GAP = 4
# Red speaks for the class and blue against it. Readers who confuse red and green can tell them apart.
_FOR, _AGAINST = np.array([178.0, 24.0, 43.0]), np.array([33.0, 102.0, 172.0])
_FAINT = 0.35  # of the image under the colours
_QUANTILE = 0.99  # of the relevance, which has the full colour: few pixels have far more

Pixels = NDArray[np.uint8]
Map = NDArray[np.float64]


def write_picture(path: Path, image: Pixels, maps: tuple[Map, ...], inside: Path | None = None) -> None:
    """Write a PNG of an image (H, W, 3) and of maps (H, W) beside it, whole or not at all.

    `inside` is the run folder that `path` lies in, as for `write_whole`.
    """
    write_tiles(path, (image, *(colour_map(image, each) for each in maps)), inside)


def write_tiles(path: Path, pixels: Sequence[Pixels], inside: Path | None = None) -> None:
    """Write a PNG of images of one size (H, W, 3) side by side, as `write_picture` does."""
    tiles = [_enlarge(each) for each in pixels]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (len(tiles) * (width + _GAP) - _GAP, height), "white")
    for place, tile in enumerate(tiles):
        sheet.paste(tile, (place * (width + _GAP), 0))
    with write_whole(path, inside=inside) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def colour_map(image: Pixels, relevance: Map) -> Pixels:
    """Return a map in colours (H, W, 3) over the faint grey of its image: red for the class, blue against it."""
    grey = image.astype(np.float64).mean(axis=-1, keepdims=True)
    ground = 255 - _FAINT * (255 - grey)
    full = np.quantile(np.abs(relevance), _QUANTILE) or np.abs(relevance).max() or 1.0
    strength = np.clip(np.abs(relevance) / full, 0, 1)[..., None]
    colour = np.where(relevance[..., None] > 0, _FOR, _AGAINST)
    return np.asarray(np.round((1 - strength) * ground + strength * colour), dtype=np.uint8)


def _enlarge(pixels: Pixels) -> Image.Image:
    height, width = pixels.shape[:2]
    factor = _SIDE / max(height, width)
    way = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
    return Image.fromarray(pixels).resize((max(1, round(width * factor)), max(1, round(height * factor))), way)
