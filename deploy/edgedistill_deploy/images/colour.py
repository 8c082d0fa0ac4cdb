"""Every kind of picture as plain RGB, as a person sees it on white paper."""

import numpy as np
from PIL import Image

from edgedistill_deploy.errors import DataError

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")


def rgb_of(image: Image.Image) -> Image.Image:
    """Return the image in mode RGB.

    Transparency (alpha, or a transparent palette entry or colour) is composited on white. 16-bit grey is divided by 257
    to 8 bits. Raises DataError for 32-bit grey outside the 16-bit range and for floating point, which have no agreed
    white. Raises ValueError for modes that Pillow cannot convert.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        return _from_wide_grey(image)
    if image.mode == "F":
        raise DataError("floating point pixels have no agreed white; save the image with 8 or 16 bits")
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _on_white(image)
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
    layer = (image.convert(straight) if straight else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _from_wide_grey(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey. Pillow would clip it at 255, and holds it as 32-bit in some formats."""
    values = np.asarray(image)
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 0xFFFF:
        raise DataError(f"grey values from {lowest} to {highest} exceed 16 bits; save the image with 8 or 16 bits")
    grey = ((values.astype(np.int32) + 128) // 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
