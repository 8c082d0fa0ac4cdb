"""The pixel values that networks are trained on, by name. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill_deploy.errors import UsageError, nearest_names

BGR = "bgr:"
_IMAGENET = (0.485, 0.456, 0.406)
# name: (mean, deviation) of images in [0, 1], for red, green and blue
_SCALINGS: dict[str, tuple[Sequence[float], Sequence[float]]] = {
    "imagenet": (_IMAGENET, (0.229, 0.224, 0.225)),
    "-1..1": ((0.5,) * 3, (0.5,) * 3),
    "0..1": ((0.0,) * 3, (1.0,) * 3),
    "0..255": ((0.0,) * 3, (1 / 255,) * 3),
    "caffe": (_IMAGENET, (1 / 255,) * 3),
}
PIXELS = (*_SCALINGS, *(f"{BGR}{name}" for name in _SCALINGS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """How a network takes pixels: the mean and deviation of images in [0, 1], and whether blue comes first."""

    mean: Sequence[float]
    std: Sequence[float]
    flips_colours: bool


def find_pixels(name: str) -> Pixels:
    """Return the pixel values of this name, one of `PIXELS`.

    `imagenet` subtracts the mean of ImageNet's images and divides by their deviation; `-1..1`, `0..1` and `0..255` are
    the range of the values; `caffe` subtracts the mean and keeps the range of 255. After `bgr:` blue comes first.

    Raises:
        UsageError: no such name.
    """
    if name not in PIXELS:
        raise UsageError(f"There are no pixel values {name!r}.{nearest_names(name, PIXELS)}")
    mean, std = _SCALINGS[name.removeprefix(BGR)]
    return Pixels(mean=mean, std=std, flips_colours=name.startswith(BGR))
