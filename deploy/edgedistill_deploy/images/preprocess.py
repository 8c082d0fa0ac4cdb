"""How an image becomes a model's input: one contract for training, export and every device."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgedistill_deploy.errors import BundleError, DataError, UsageError, nearest_names
from edgedistill_deploy.images.colour import rgb_of

Resize = Callable[[Image.Image, tuple[int, int]], Image.Image]

MAX_SIDE = 8192
MAX_RESIZED_PIXELS = 1 << 27  # 400 MB of RGB; an ordinary photo resized for a model is a thousand times smaller

RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Resize, centre crop and pixel format. Mean and standard deviation are inside the ONNX graph.

    Args:
        size: (H, W) that the model sees, in pixels.
        resize_mode: "shortest" keeps the aspect and scales until the image covers size / crop_fraction; "squash" scales
            to exactly size / crop_fraction. Both then cut out the centre. At equal H and W, all sizes, offsets and
            rounding are those of torchvision's Resize and CenterCrop as timm composes them.
        crop_fraction: part of the resized side that the crop keeps, in [0.05, 1].
        interpolation: a Pillow filter, a name of `INTERPOLATIONS`; all but nearest widen with the reduction.
        colour: channel order; "rgb".
        input_dtype: "uint8".

    Raises UsageError for values outside these.
    """

    size: tuple[int, int]
    resize_mode: str = "shortest"
    crop_fraction: float = 1.0
    interpolation: str = "bilinear"
    colour: str = "rgb"
    input_dtype: str = "uint8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _check_size(self.size))
        object.__setattr__(self, "crop_fraction", _check_fraction(self.crop_fraction))
        _require_known("resize_mode", self.resize_mode, RESIZE_MODES)
        _require_known("interpolation", self.interpolation, tuple(INTERPOLATIONS))
        _require_known("colour", self.colour, ("rgb",))
        _require_known("input_dtype", self.input_dtype, ("uint8",))

    @property
    def digest(self) -> str:
        """The sha256 in hexadecimal of the fields' canonical JSON. Models with equal digests take equal inputs."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the fields as JSON values, without the digest."""
        return {**asdict(self), "size": list(self.size)}

    @classmethod
    def from_json(cls, record: object) -> "Preprocess":
        """Read what `to_json` wrote, with or without the digest beside it.

        Raises BundleError for missing or unknown keys, for wrong values, and for a digest of other fields.
        """
        if not isinstance(record, Mapping):
            raise BundleError(f"The preprocess record is {type(record).__name__}; it must be a JSON object.")
        given = {key: value for key, value in record.items() if key != "digest"}
        _require_keys(given, {field.name for field in fields(cls)})
        try:
            preprocess = cls(**given)
        except UsageError as error:
            raise BundleError(f"The preprocess record does not hold: {error}") from error
        if record.get("digest", preprocess.digest) != preprocess.digest:
            raise BundleError(
                "The preprocess record was changed: its digest is not that of its fields. Export it again."
            )
        return preprocess

    def apply(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return the image as uint8 (H, W, 3), RGB. Raises DataError for an image too elongated to be resized."""
        return self.apply_with(image, self.resize)

    def apply_with(self, image: Image.Image, resize: Resize) -> NDArray[np.uint8]:
        """Do the same as `apply`, but scale with another function of (RGB image, (width, height))."""
        resized = self._resize(rgb_of(image), resize)
        (height, width), (full_width, full_height) = self.size, resized.size
        if (height, width) == (full_height, full_width):
            return np.asarray(resized)
        top, left = round((full_height - height) / 2), round((full_width - width) / 2)
        return np.asarray(resized.crop((left, top, left + width, top + height)))

    def resize(self, image: Image.Image, size: tuple[int, int]) -> Image.Image:
        """Scale an RGB image to (width, height) pixels with the filter."""
        return image.resize(size, INTERPOLATIONS[self.interpolation])

    def leaves_unscaled(self, image: Image.Image) -> bool:
        """Return whether an image already has the size to which it would be scaled before the crop."""
        return self._scaled_size(image.height, image.width) == (image.height, image.width)

    def seen_part(self, image: Image.Image) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of what is left of an image after the crop, as shares from 0 to 1."""
        (height, width), (full_height, full_width) = self.size, self._scaled_size(image.height, image.width)
        top, left = round((full_height - height) / 2), round((full_width - width) / 2)
        return left / full_width, top / full_height, (left + width) / full_width, (top + height) / full_height

    def _resize(self, image: Image.Image, resize: Resize) -> Image.Image:
        height, width = self._scaled_size(image.height, image.width)
        if height * width > MAX_RESIZED_PIXELS:
            raise DataError(
                f"An image of {image.width} x {image.height} pixels would have to grow to {width} x {height}; crop it "
                "to a less elongated shape."
            )
        return resize(image, (width, height))

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (H, W) before the crop, in whole-number arithmetic, so that all machines round equally."""
        least_height, least_width = least_size(self)
        if self.resize_mode == "squash":
            return least_height, least_width
        if least_height * width >= least_width * height:
            return least_height, least_height * width // height
        return least_width * height // width, least_width


def least_size(preprocess: Preprocess) -> tuple[int, int]:
    """Return (H, W) that an image must cover after scaling, before the centre is cut out."""
    height, width = preprocess.size
    return math.floor(height / preprocess.crop_fraction), math.floor(width / preprocess.crop_fraction)


@functools.cache
def scales_tall_pictures_first() -> bool:
    """Return whether the installed Pillow scales a picture vertically first where that is less work.

    Pillow 13 does where the height shrinks, and by more than twice what the width does. Earlier ones never do. Between
    the passes it rounds, and cuts what lies outside 0 to 255, so the order shows in the pixels.
    """
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 3), dtype=np.uint8)
    picture, bicubic = Image.fromarray(noise), INTERPOLATIONS["bicubic"]
    vertically_first = picture.resize((16, 8), bicubic).resize((8, 8), bicubic)
    return bool(np.array_equal(np.asarray(picture.resize((8, 8), bicubic)), np.asarray(vertically_first)))


def _check_size(size: Any) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise UsageError(f"size is {size!r}; it must be (height, width), whole numbers from 1 to {MAX_SIDE} pixels.")
    return sides


def _check_fraction(fraction: Any) -> float:
    if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0.05 <= fraction <= 1:
        raise UsageError(f"crop_fraction is {fraction!r}; it must lie between 0.05 and 1, where 1 keeps everything.")
    return float(fraction)


def _require_known(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{name} is {value!r}, which is unknown.{nearest_names(str(value), known)}")


def _require_keys(given: Mapping[Any, Any], known: set[str]) -> None:
    missing, unknown = sorted(known - set(given)), sorted(set(given) - known, key=str)
    if missing:
        raise BundleError(f"The preprocess record lacks {', '.join(missing)}.")
    if unknown:
        raise BundleError(
            f"The preprocess record has the unknown key {unknown[0]!r}.{nearest_names(str(unknown[0]), sorted(known))}"
        )
