"""What a caller has, turned into pictures once: paths, bytes, opened pictures, and arrays whose channels are named."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.images.decode import MAX_PIXELS, read_image

Given = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image
Source = Path | bytes | Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that is read when it is its turn; `name` is `printable` text, `called` is its name in messages."""

    name: str
    source: Source = field(repr=False)
    called: str = ""

    def read(self) -> Image.Image:
        """Return it as RGB, upright. Raises UnusableImageError, a DataError, with what is wrong."""
        return read_image(self.source, self.subject)

    @property
    def subject(self) -> str:
        """What a message begins with."""
        return self.called or (self.name if isinstance(self.source, Path) else _capital(self.name))


def picture_of(given: Any, place: int | None = None) -> Picture:
    """Return what a caller gave as a picture; `place` is where it stood in a list.

    Raises UsageError for other types.
    """
    where = "the picture" if place is None else f"picture {place}"
    if isinstance(given, (str, os.PathLike)):
        path = Path(os.fsdecode(given))
        return Picture(name=printable(str(path)), source=path)
    if isinstance(given, (bytes, bytearray, memoryview)):
        return Picture(name=where, source=bytes(given))
    if isinstance(given, Image.Image):
        opened = getattr(given, "filename", "")  # where Pillow opened it
        name = printable(os.fsdecode(opened)) if opened else where
        return Picture(name=name, source=given, called=name if opened else "")
    if isinstance(given, np.ndarray):
        raise UsageError(
            f"{_capital(where)} is an array of shape {given.shape}, which does not say whether red or blue comes "
            "first: give it by name, predict(rgb=array) or, as OpenCV reads it, predict(bgr=array)."
        )
    raise UsageError(
        f"{_capital(where)} is {_article(type(given).__name__)}; give a path, the bytes of an image file, a PIL image, "
        "a list of these, or an array by name: predict(rgb=array)."
    )


def picture_of_array(pixels: Any, channels: str, place: int | None = None) -> Picture:
    """Return an array as a picture: uint8 (H, W, 3) in the order of `channels`, "rgb" or "bgr", or grey (H, W).

    Raises UsageError for another type or shape.
    """
    where = channels if place is None else f"{channels}[{place}]"
    if not isinstance(pixels, np.ndarray):
        raise UsageError(f"{where} is {_article(type(pixels).__name__)}; it must be a numpy array, uint8 (H, W, 3).")
    _require_pixels(pixels, where)
    ordered = pixels[..., ::-1] if channels == "bgr" and pixels.ndim == 3 else pixels
    image = Image.fromarray(np.ascontiguousarray(ordered))
    return Picture(name="the picture" if place is None else f"picture {place}", source=image)


def _require_pixels(pixels: NDArray[Any], where: str) -> None:
    told = f"{where} is {pixels.dtype} {pixels.shape}"
    if pixels.ndim == 4:
        raise UsageError(f"{told}; for several pictures give a list: {where}=list(array).")
    if pixels.dtype != np.uint8:
        raise UsageError(f"{told}; it must be uint8 with values from 0 to 255, (H, W, 3), or (H, W) for grey.")
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise UsageError(f"{told}; it must be uint8 (H, W, 3), or (H, W) for grey, height first and channels last.")
    if pixels.size == 0:
        raise UsageError(f"{told}, which has no pixels.")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise UsageError(f"{told}, more than the {MAX_PIXELS} pixels allowed; scale it down.")


def pictures_of(given: Any, arrays: Sequence[tuple[str, Any]], call: str = "predict") -> tuple[list[Picture], bool]:
    """Return the pictures of one call, and whether the caller gave a list.

    `arrays` are the channel orders with what was given for them, None where nothing was. `call` is what the caller
    called. Raises UsageError unless exactly one thing was given.
    """
    named = [(channels, value) for channels, value in arrays if value is not None]
    if (given is not None) + len(named) != 1:
        several = " or a list of pictures" if call == "predict" else ""
        raise UsageError(f"{call} takes one of: a picture{several}, rgb=array, bgr=array.")
    if named:
        channels, value = named[0]
        if isinstance(value, (list, tuple)):
            return [picture_of_array(each, channels, place) for place, each in enumerate(value)], True
        return [picture_of_array(value, channels)], False
    if isinstance(given, (list, tuple)):
        return [picture_of(each, place) for place, each in enumerate(given)], True
    return [picture_of(given)], False


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
