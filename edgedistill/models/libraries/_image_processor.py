"""The image processors of transformers: their settings are read, and held against what they really do."""

import math
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from edgedistill.models.libraries.found import crop_fraction
from edgedistill.models.libraries.messages import first_line
from edgedistill.models.normalise import Normalise
from edgedistill.models.pixels import Pixels
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.images.preprocess import INTERPOLATIONS, Preprocess

# Mean difference of a pixel, of 255, from the library's own preparation of an image; filters round differently.
_TOLERANCE = 2.0


def read_image_processor(teacher: str, processor: Any) -> tuple[Preprocess, Pixels]:
    """Return what an image processor does to an image; `teacher` is its name in messages.

    Raises:
        DataError: it has settings of another kind, or does something else with an image than its settings say.
    """
    who = f"The image processor of {teacher}, {type(processor).__name__},"
    try:
        preprocess, pixels = _read_size(processor), _measure_pixels(processor)
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration, EdgeDistillError) as error:
        raise DataError(f"{who} has settings that EdgeDistill does not know: {first_line(error)}.") from error
    apart = _difference(processor, preprocess, pixels)
    if not apart <= _TOLERANCE:
        found = f"differs by {apart:.1f} of 255 on average" if math.isfinite(apart) else "gets another size"
        raise DataError(
            f"{who} does something that EdgeDistill does not know: the same image {found}. Save the model without it, "
            "in timm's layout, or give the model with python:MODULE:FUNCTION."
        )
    return preprocess, pixels


def _read_size(processor: Any) -> Preprocess:
    """Return the resize and the crop of an image processor."""
    filters = {int(number): name for name, number in INTERPOLATIONS.items()}
    interpolation = filters[int(processor.resample)]
    size = {side: int(pixels) for side, pixels in dict(processor.size).items() if pixels is not None}
    crop = _crop_of(processor)
    if "shortest_edge" not in size:
        sides = size["height"], size["width"]
        cropped = crop or sides
        fraction = crop_fraction(cropped[0], sides[0])
        return Preprocess(size=cropped, resize_mode="squash", crop_fraction=fraction, interpolation=interpolation)
    edge = size["shortest_edge"]
    share = getattr(processor, "crop_pct", None)
    if share and not crop and edge >= 384:  # ConvNeXt's: from there on it does not crop
        return Preprocess(size=(edge, edge), resize_mode="squash", interpolation=interpolation)
    cropped = crop or (edge, edge)
    fraction = crop_fraction(cropped[0], _scaled_edge(processor, edge, share))
    return Preprocess(size=cropped, crop_fraction=fraction, interpolation=interpolation)


def _scaled_edge(processor: Any, edge: int, share: float | None) -> int:
    """Return the shorter side before the crop, in pixels; some processors scale to more than they say."""
    if type(processor).__name__.startswith("Levit"):
        return int((256 / 224) * edge)
    return int(edge / share) if share else edge


def _crop_of(processor: Any) -> tuple[int, int] | None:
    if not getattr(processor, "do_center_crop", False):
        return None
    size = dict(processor.crop_size)
    return int(size["height"]), int(size["width"])


def _measure_pixels(processor: Any) -> Pixels:
    """Measure what black, white and red become: the scaling is linear in every processor, however it is written."""
    black, white, red = (
        _prepare(processor, Image.new("RGB", (512, 512), colour)).mean(dim=(1, 2)).double()
        for colour in ((0, 0, 0), (255, 255, 255), (255, 0, 0))
    )
    std = 1 / (white - black)
    mean = -black * std
    flips = bool((red[2] - black[2]).abs() > (red[0] - black[0]).abs())
    order = [2, 1, 0] if flips else [0, 1, 2]  # as the image has them, red first
    return Pixels(mean=mean[order].tolist(), std=std[order].tolist(), flips_colours=flips)


def _prepare(processor: Any, image: Image.Image) -> Tensor:
    """Return the processor's (3, H, W) of an RGB image."""
    prepared: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
    return prepared


def _difference(processor: Any, preprocess: Preprocess, pixels: Pixels) -> float:
    """Return by how much of 255 a pixel of one image differs on average from what the processor makes of it."""
    height, width = 2 * preprocess.size[0], 3 * preprocess.size[1]
    rows, columns = np.mgrid[
        0 : 9 : height * 1j, 0 : 12 : width * 1j
    ]  # long waves, which a shift by a pixel changes little
    waves = [np.sin(rows + channel) * np.cos(columns - channel) for channel in range(3)]
    image = Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, axis=-1)))
    theirs = _prepare(processor, image)
    own = Normalise(pixels.mean, pixels.std)(torch.from_numpy(preprocess.apply(image).copy())[None])[0]
    if theirs.shape != own.shape:
        return math.inf
    spread = 255 * torch.tensor(pixels.std)[:, None, None]
    return float(((theirs.flip(0) if pixels.flips_colours else theirs) - own).mul(spread).abs().mean())
