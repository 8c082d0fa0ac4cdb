"""Damaged pictures: every format and mode that Pillow writes, cut, overwritten, with false sizes and odd metadata."""

import contextlib
import io
import struct
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.decode import SUFFIXES, read_image
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sources import open_images
from fuzzing.kind import Kind, Left
from reference.image_files import chunk, png
from reference.mutations import changed_bytes

_MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
)
_SIZES = ((1, 1), (3, 5), (16, 16), (64, 33), (257, 1), (1, 300))
_CLAIMS = (0, 1, 255, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def _prepare(folder: Path) -> None:
    """Write nothing: the pictures are drawn for each case."""


def _make(random: Random, samples: Path, folder: Path) -> None:
    for index in range(random.randint(1, 4)):
        place = folder / "images" / random.choice(("cat", "dog", "café", "x" * 100)) / f"{index}{_suffix(random)}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(_content(random))


def _suffix(random: Random) -> str:
    return random.choice((*sorted(SUFFIXES), ".JPG", ".txt", ""))


def _content(random: Random) -> bytes:
    kind = random.choice(("damaged",) * 5 + ("sound", "claims", "metadata", "noise", "nothing"))
    if kind == "nothing":
        return b""
    if kind == "noise":
        return random.choice(
            (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"RIFF")
        ) + random.randbytes(random.choice((1, 10, 1000)))
    if kind == "claims":
        width, height = random.choice(_CLAIMS), random.choice(_CLAIMS)
        rows = bytes(random.choice((0, 10, 100_000)))
        return png(width, height, depth=random.choice((1, 8, 16, 3)), colour=random.randint(0, 7), rows=rows)
    if kind == "metadata":
        return _with_metadata(random)
    content = _encoded(random)
    return content if kind == "sound" else changed_bytes(content, random)


def _encoded(random: Random, **options: Any) -> bytes:
    """Return a picture in a random format and mode, of those that go together."""
    Image.init()
    while True:
        image = Image.new(random.choice(_MODES), random.choice(_SIZES), random.choice((0, 1)))
        stream = io.BytesIO()
        with contextlib.suppress(Exception):  # most formats take few modes
            image.save(stream, random.choice(sorted(Image.SAVE)), **options)
            return stream.getvalue()


def _with_metadata(random: Random) -> bytes:
    """Return a JPEG, PNG, WebP or TIFF whose EXIF data is wrong, or an animation that is cut short."""
    exif = random.choice((_exif(random), random.randbytes(40), b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"))
    image = Image.fromarray(np.full((9, 7, 3), 100, np.uint8))
    stream = io.BytesIO()
    if random.randint(0, 2) == 0:
        return png(2, 2, colour=2, rows=bytes(14), extra=chunk(b"eXIf", exif[6:]))
    image.save(stream, random.choice(("JPEG", "WEBP", "PNG")), exif=exif)
    return changed_bytes(stream.getvalue(), random) if random.randint(0, 1) else stream.getvalue()


def _exif(random: Random) -> bytes:
    """Return EXIF data with an orientation of any type and value."""
    kind, value = random.choice((1, 2, 3, 4, 5, 7, 12)), random.choice((0, 1, 3, 6, 8, 9, 65535, 2**31))
    entry = struct.pack("<HHII", 0x0112, kind, random.choice((1, 0, 2**31)), value)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + entry + bytes(4)


def _examine(random: Random, folder: Path) -> None:
    preprocess = Preprocess(size=(8, 8))
    for path in sorted((folder / "images").rglob("*")):
        if path.is_file():
            for source in (path, path.read_bytes()):
                with contextlib.suppress(EdgeDistillError):
                    _require_rgb(preprocess, read_image(source))
    with contextlib.suppress(EdgeDistillError):
        images = open_images(folder / "images").train
        for index in range(len(images)):
            images.digest(index)
            images.read(index)


def _require_rgb(preprocess: Preprocess, image: Image.Image) -> None:
    if image.mode != "RGB":
        raise Left(f"an image of mode {image.mode} is handed on")
    prepared = preprocess.apply(image)
    if prepared.shape != (8, 8, 3) or prepared.dtype != np.uint8:
        raise Left(f"a prepared image has shape {prepared.shape} and dtype {prepared.dtype}")


IMAGES = Kind(name="images", weight=3.0, prepare=_prepare, make=_make, examine=_examine)
