"""Image files in a bundle, with the prepared images that a device must make of them.

Another JPEG decoder, no antialiasing, or blue before red give the model other pixels than training had. A check that
starts from prepared images cannot see this. Code draws the files, so no picture of a person has to travel. Their sides
are odd, and they are larger and smaller than the model's input.

Beside them are images at the limits of what a model takes, for which a sound model gives finite logits too. No
photograph is as dark, as bright or as rough: a division by a standard deviation of 0, for example, shows on no
evaluation image.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.files.npz import ArraySpec, read_arrays
from edgedistill_deploy.files.writing import write_whole
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.images.preprocess import Preprocess

Prepare = Callable[[bytes], NDArray[np.uint8]]

MAX_BYTES = 256 << 20
LARGEST_SIDE = 767  # of a drawn file, for every size of the model's input
# Largest difference of a pixel value (0 to 255) that counts as rounding. Scaling in whole numbers is the same
# everywhere, but vectorised builds round a little differently. JPEG decoders differ by a few steps. Another filter or
# decoder mode differs by tens.
TOLERANCES = {"PNG": 2, "JPEG": 10}

_EXIF_ORIENTATION, _QUARTER_TURN = 0x0112, 6
_SPECS = {
    "names": ArraySpec(kinds="U", axes=(1,), description="strings (n,)"),
    "content": ArraySpec(kinds="u", item_bytes=1, axes=(1,), description="uint8 (total bytes,)"),
    "ends": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (n,)"),
    "prepared": ArraySpec(kinds="u", item_bytes=1, axes=(4,), description="uint8 (n, H, W, 3)"),
}

_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
}
LIMIT_NAMES = (*_COLOURS, "noise")
_NOISE_SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoldenImages:
    """Image files (n) with their names, and the prepared images uint8 (n, H, W, 3) that they must become."""

    names: tuple[str, ...]
    files: tuple[bytes, ...] = field(repr=False)
    prepared: NDArray[np.uint8] = field(repr=False)

    def __post_init__(self) -> None:
        counts = {len(self.names), len(self.files), len(self.prepared)}
        if len(counts) != 1 or not self.names or self.prepared.shape[3] != 3:
            raise DataError(
                f"{len(self.names)} names, {len(self.files)} files and prepared images of shape {self.prepared.shape} "
                "do not fit each other; there must be one prepared image (H, W, 3) for each file, at least one."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenDifference:
    """How one file came out here: the largest difference of a value (0 to 255), and the share of differing values.

    Both are None where the file could not be prepared; then `problem` says why.
    """

    name: str
    passed: bool
    max_abs_difference: int | None = None
    differing_share: float | None = None
    tolerance: int
    problem: str = ""


def make_golden_images(preprocess: Preprocess) -> GoldenImages:
    """Draw the files for a model's input size and prepare them as training did."""
    files = _draw_images(*preprocess.size)
    return GoldenImages(
        names=tuple(files),
        files=tuple(files.values()),
        prepared=np.stack([preprocess.apply(read_image(content)) for content in files.values()]),
    )


def write_golden_images(path: Path, golden: GoldenImages) -> None:
    """Write the files and prepared images as compressed .npz, whole or not at all, without pickle."""
    with write_whole(path, inside=path.parent) as temporary:
        np.savez_compressed(
            temporary,
            names=np.array(golden.names),
            content=np.frombuffer(b"".join(golden.files), np.uint8),
            ends=np.cumsum([len(each) for each in golden.files]).astype(np.int64),
            prepared=golden.prepared,
        )


def read_golden_images(path: Path) -> GoldenImages:
    """Read what `write_golden_images` wrote. Raises BundleError naming the file for anything else."""
    arrays = read_arrays(path, _SPECS, BundleError, limit_bytes=MAX_BYTES)
    content, ends = arrays["content"], arrays["ends"]
    starts = np.concatenate([[0], ends[:-1]])
    if not len(ends) or (ends < starts).any() or starts[0] != 0 or ends[-1] != len(content):
        raise BundleError(f"{path} is damaged: the ends of its files do not fit their {len(content)} bytes.")
    try:
        return GoldenImages(
            names=tuple(str(name) for name in arrays["names"]),
            files=tuple(content[start:end].tobytes() for start, end in zip(starts, ends, strict=True)),
            prepared=arrays["prepared"],
        )
    except DataError as error:
        raise BundleError(f"{path} is damaged: {error}") from error


def compare_golden_images(golden: GoldenImages, prepare: Prepare) -> tuple[GoldenDifference, ...]:
    """Prepare each file with a device's own function, from its bytes to uint8 (H, W, 3), and compare."""
    return tuple(
        _compare_image(name, content, expected, prepare)
        for name, content, expected in zip(golden.names, golden.files, golden.prepared, strict=True)
    )


def device_preparation(preprocess: Preprocess) -> Prepare:
    """Return this device's own function from the bytes of a file to the model's input."""
    return lambda content: preprocess.apply(read_image(content))


def _compare_image(name: str, content: bytes, expected: NDArray[np.uint8], prepare: Prepare) -> GoldenDifference:
    tolerance = TOLERANCES["JPEG" if name.endswith(".jpg") else "PNG"]
    try:
        given = np.asarray(prepare(content))
    except DataError as error:
        return GoldenDifference(name=name, passed=False, tolerance=tolerance, problem=str(error))
    if given.shape != expected.shape or given.dtype != np.uint8:
        problem = f"it became {given.dtype} {given.shape} where uint8 {expected.shape} was recorded"
        return GoldenDifference(name=name, passed=False, tolerance=tolerance, problem=problem)
    difference = np.abs(given.astype(np.int16) - expected)
    largest = int(difference.max())
    return GoldenDifference(
        name=name,
        passed=largest <= tolerance,
        max_abs_difference=largest,
        differing_share=float(np.mean(difference > 0)),
        tolerance=tolerance,
    )


def _draw_images(height: int, width: int) -> dict[str, bytes]:
    """Draw the files: landscape, portrait, turned by EXIF, grey, transparent, and smaller than the input."""
    turned = Image.Exif()
    turned[_EXIF_ORIENTATION] = _QUARTER_TURN
    large, tall = _sides(1.6 * height, 2.3 * width), _sides(1.9 * height, 1.4 * width)
    grey = _picture(*_sides(1.3 * height, 1.3 * width), seed=3).convert("L")
    clear = _picture(*tall, seed=4)
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    return {
        "landscape.jpg": _encode(_picture(*large, seed=0), "JPEG", quality=90),
        "portrait.png": _encode(_picture(*tall, seed=1), "PNG"),
        "turned.jpg": _encode(_picture(*large, seed=2), "JPEG", quality=85, exif=turned),
        "grey.png": _encode(grey, "PNG"),
        "transparent.png": _encode(clear, "PNG"),
        "small.png": _encode(_picture(*_sides(0.6 * height, 0.7 * width), seed=6), "PNG"),
    }


def _sides(height: float, width: float) -> tuple[int, int]:
    """Return both sides made odd, and at most `LARGEST_SIDE`."""
    tall, wide = (min(LARGEST_SIDE, int(side)) | 1 for side in (height, width))
    return tall, wide


def _picture(height: int, width: int, seed: int) -> Image.Image:
    """Draw coloured waves, from slow ones to some near the grid of pixels, so that every filter changes them."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.empty((height, width, 3))
    for channel in range(3):
        slow, fast = random.uniform(0.02, 0.06, 2), random.uniform(0.5, 1.6, 2)
        wave = np.sin(slow[0] * rows + slow[1] * columns + channel)
        stripes = np.sign(np.sin(fast[0] * rows + fast[1] * columns))
        pixels[..., channel] = 128 + (60 + 30 * channel / 2) * wave + 35 * stripes * (wave > 0)
    # Few levels, because PNG then packs the files to a third.
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8) & 0xE0)


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def limit_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image for each of `LIMIT_NAMES`, uint8 (7, H, W, 3); the noise is always the same."""
    height, width = size
    flat = [np.full((height, width, 3), colour, np.uint8) for colour in _COLOURS.values()]
    noise = np.random.default_rng(_NOISE_SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([*flat, noise])
