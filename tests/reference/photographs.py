"""Pictures with the smooth areas of photographs, and copies of them as people make them."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def photograph(seed: int, size: tuple[int, int] = (128, 96)) -> Image.Image:
    """Return an RGB picture of `size` (width, height) that differs from those of all other seeds."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def shrunk(image: Image.Image) -> Image.Image:
    """Return the picture at half its size."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def encoded_anew(image: Image.Image) -> Image.Image:
    """Return the picture after JPEG of quality 40."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


def save(image: Image.Image, path: Path) -> Path:
    """Write the picture, and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, compress_level=1)
    return path
