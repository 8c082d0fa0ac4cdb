"""Small pictures of evaluated images: for files, and as base64 inside a record."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

INLINED_SIDE = 128  # pixels, at most
_SMALL_PNG = 6 << 10  # bytes; above this a JPEG is tried
_JPEG_QUALITY = 80


def thumbnail(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """Scale an image uint8 (H, W, 3) to at most `side` pixels: small ones grow by a whole factor, large ones shrink."""
    image = Image.fromarray(pixels)
    factor = side // max(image.size)
    if factor >= 1:
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def inline_picture(pixels: NDArray[np.uint8]) -> str:
    """Return a small picture of an image uint8 (H, W, 3) as base64: a PNG, or a JPEG where that is much smaller."""
    image = thumbnail(pixels, INLINED_SIDE)
    exact = _encode(image, "PNG", optimize=True)
    if len(exact) > _SMALL_PNG:
        exact = min(exact, _encode(image, "JPEG", quality=_JPEG_QUALITY, optimize=True), key=len)
    return base64.b64encode(exact).decode("ascii")


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
