"""One image from a file or from bytes, of every usual format, with clear errors for what is wrong with it."""

import io
import warnings
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from edgedistill_deploy.errors import DataError, reading
from edgedistill_deploy.images.colour import rgb_of

MAX_PIXELS = 1 << 27  # 134 megapixels: more than any camera takes at once, 400 MB decoded

# Only formats that decode inside this process: EPS would start Ghostscript on an unknown file.
_SUFFIXES_BY_FORMAT = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2",),
}
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES_BY_FORMAT.values() for suffix in suffixes)


def read_image(source: Path | bytes) -> Image.Image:
    """Return an image as RGB, upright, at its own size.

    EXIF orientation is applied, transparency is composited on white, and 16-bit grey is scaled to 8 bits. An animation
    gives its first frame. Colour profiles are ignored, as torchvision and timm do.

    Raises DataError naming the file when it is missing, empty, broken, cut off, not an image, or larger than
    `MAX_PIXELS` pixels.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), f"The image of {len(source)} bytes", len(source))
    with reading(source):
        if not source.is_file():  # opening a pipe would wait for ever
            raise DataError(f"The image {source} {'is not a file' if source.exists() else 'does not exist'}.")
        with source.open("rb") as stream:
            return _decode(stream, str(source), source.stat().st_size)


def _decode(stream: IO[bytes], name: str, byte_count: int) -> Image.Image:
    if byte_count == 0:
        raise DataError(f"{name} is empty (0 bytes); replace or remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, and about sizes that are checked here
            with Image.open(stream, formats=_available_formats()) as image:
                _check_size(image)
                return rgb_of(_upright(image))
    except DataError as error:
        raise DataError(f"{name} cannot be used: {error}.") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more on broken files
        raise DataError(f"{name} cannot be read as an image: {_reason(error)}; replace or remove it.") from error


def _check_size(image: Image.Image) -> None:
    """Check the size in the header before anything is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} allowed; scale it down")


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    if image.format == "TIFF":  # Pillow turns these while loading, and some versions do not record it
        return image.copy()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # a picture with unreadable metadata is still readable
        return image.copy()


def _available_formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in _SUFFIXES_BY_FORMAT if name in Image.OPEN)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"it is none of {', '.join(_available_formats())}"
    if isinstance(error, Image.DecompressionBombError):
        return f"its header promises more than {MAX_PIXELS} pixels"
    return " ".join(str(error).split()) or type(error).__name__
