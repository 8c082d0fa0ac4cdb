"""Image files with a known picture in them, written without the reader under test."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def quadrants(height: int = 12, width: int = 20) -> Pixels:
    """Return RGB pixels (H, W, 3): red, green, blue and grey quarters, so that every turn and swap shows."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[: height // 2, : width // 2] = (220, 20, 30)
    pixels[: height // 2, width // 2 :] = (10, 200, 40)
    pixels[height // 2 :, : width // 2] = (20, 30, 210)
    pixels[height // 2 :, width // 2 :] = (120, 130, 140)
    return pixels


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the bytes of an image file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, rows: bytes = b"", extra: bytes = b"") -> bytes:
    """Return a PNG put together by hand, which may lie about its size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one PNG chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_folder(root: Path, counts: dict[str, int], *, seed: int = 0) -> Path:
    """Write distinct small PNGs, `counts[folder]` of them below each folder of `root`."""
    random = np.random.default_rng(seed)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number:02}.png")
    return root
