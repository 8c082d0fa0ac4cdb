"""One image from a file or from bytes, of every usual format, with clear errors for what is wrong with it."""

import contextlib
import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError

from edgedistill_deploy.errors import DataError, reading
from edgedistill_deploy.images._content import HEAD_BYTES, describe_content
from edgedistill_deploy.images.colour import rgb_of

MAX_PIXELS = 1 << 27  # 134 megapixels: more than any camera takes at once, 400 MB decoded
_TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} megapixels"

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
    "HEIF": (".heic", ".heif", ".hif"),
}


class UnusableImageError(DataError):
    """An image that cannot be used; `reason` says why, in words that are the same for all images with this fault."""

    def __init__(self, message: str, reason: str = "cannot be read") -> None:
        super().__init__(message, reason)  # unchanged, so that another process can build the error again
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[0])


_reads_heic = importlib.util.find_spec("pillow_heif") is not None
SUFFIXES = frozenset(
    suffix for name, suffixes in _SUFFIXES_BY_FORMAT.items() for suffix in suffixes if name != "HEIF" or _reads_heic
)


def read_image(source: Path | bytes | Image.Image, name: str | None = None) -> Image.Image:
    """Return an image as RGB, upright, at its own size; `name` is what messages call one that has no path.

    EXIF orientation is applied, transparency is composited on white, and 16-bit grey is scaled to 8 bits. An animation
    gives its first frame. Colour profiles are ignored, as torchvision and timm do. The content decides the format,
    not the name; HEIC is read where pillow-heif is installed.

    Raises UnusableImageError, a DataError, naming the file when it is missing, empty, broken, cut off, not an image, or
    larger than `MAX_PIXELS` pixels.
    """
    if isinstance(source, Image.Image):
        with _explaining(name or "The image"):
            return _as_seen(source)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), name or f"The image of {len(source)} bytes", len(source))
    with reading(source, UnusableImageError):
        if not source.is_file():  # opening a pipe would wait for ever
            raise UnusableImageError(f"The image {source} {'is not a file' if source.exists() else 'does not exist'}.")
        with source.open("rb") as stream:
            return _decode(stream, str(source), source.stat().st_size)


def load_decoders() -> None:
    """Import the decoders now, so that the first image does not wait for them."""
    _available_formats()


def _decode(stream: IO[bytes], name: str, byte_count: int) -> Image.Image:
    if byte_count == 0:
        raise UnusableImageError(f"{name} is empty (0 bytes); replace or remove it.", "empty (0 bytes)")
    with _explaining(name, stream), Image.open(stream, formats=_available_formats()) as image:
        return _as_seen(image)


def _as_seen(image: Image.Image) -> Image.Image:
    _check_size(image)
    return rgb_of(_upright(image))


@contextlib.contextmanager
def _explaining(name: str, stream: IO[bytes] | None = None) -> Iterator[None]:
    """Turn whatever a decoder raises into an UnusableImageError; `stream` is looked into to say what it holds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about odd metadata, and about sizes that are checked here
            yield
    except UnusableImageError as error:
        raise UnusableImageError(f"{name} cannot be used: {error}.", error.reason) from error
    except DataError as error:
        raise UnusableImageError(f"{name} cannot be used: {error}.", "pixels of a kind that is not read") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error and more on broken files
        detail, reason = _explain(error, stream)
        raise UnusableImageError(
            f"{name} cannot be read as an image: {detail}; replace or remove it.", reason
        ) from error


def _check_size(image: Image.Image) -> None:
    """Check the size in the header before anything is decoded."""
    if image.width * image.height > MAX_PIXELS:
        raise UnusableImageError(
            f"{image.width} x {image.height} pixels are more than the {MAX_PIXELS} allowed; scale it down", _TOO_LARGE
        )


def _upright(image: Image.Image) -> Image.Image:
    image.load()
    if image.format == "TIFF":  # Pillow turns these while loading, and some versions do not record it
        return image.copy()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001  # a picture with unreadable metadata is still readable
        return image.copy()


@functools.cache
def _available_formats() -> tuple[str, ...]:
    Image.init()
    if _reads_heic:
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in _SUFFIXES_BY_FORMAT if name in Image.OPEN)


def _explain(error: Exception, stream: IO[bytes] | None) -> tuple[str, str]:
    """Return what is wrong with this file, and the same in words that fit every such file."""
    if isinstance(error, Image.DecompressionBombError):
        return f"its header promises more than {MAX_PIXELS} pixels", _TOO_LARGE
    if stream is None or not isinstance(error, UnidentifiedImageError):
        return " ".join(str(error).split()) or type(error).__name__, "cut off or damaged"
    stream.seek(0)
    content = describe_content(stream.read(HEAD_BYTES))
    seems = f", and seems to be {content}" if content else ""
    return f"it is none of {', '.join(_available_formats())}{seems}", f"no image{f' but {content}' if content else ''}"
