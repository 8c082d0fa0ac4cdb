"""What every library's teacher becomes, before it is checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from edgedistill_deploy.images.preprocess import Preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A classifier as its library gives it.

    Attributes:
        model: takes normalised images (N, channels, H, W) and returns logits (N, classes).
        preprocess: how an image becomes the model's input, but for the normalisation.
        mean, std: of images in [0, 1]; one number, or one for each of red, green and blue.
        labels: in output order; None where the weights carry none.
        flips_colours: the model takes blue, green, red.
        channels: 3, or 1 for grey images.
        origin: the file of the weights, where it is known.
        notes: what the user should know about how the weights were read.
    """

    model: nn.Module
    preprocess: Preprocess
    mean: Sequence[float]
    std: Sequence[float]
    labels: tuple[str, ...] | None = None
    flips_colours: bool = False
    channels: int = 3
    origin: Path | None = None
    notes: tuple[str, ...] = ()


def crop_fraction(crop: int, resized: int) -> float:
    """Return the fraction for `Preprocess` that scales to exactly `resized` pixels before the crop."""
    return next(
        fraction
        for fraction in (crop / resized, crop / (resized + 1e-6))  # the quotient may round to one pixel less
        if int(crop / fraction) == resized
    )
