"""Parts of an image taken out, and filled from what is around them."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SMOOTHINGS = 8


def inpaint(images: Tensor, known: Tensor, otherwise: Tensor) -> Tensor:
    """Fill the pixels that are not known with the colours of those around them.

    Known pixels are averaged to ever smaller images, until every pixel there is known. Each image then fills the gaps
    of the next larger one, as in the pyramid of Gortler et al. (1996). A few steps of diffusion smooth the seams. No
    new colour is above or below all known ones, and the same input gives the same result.

    Args:
        images: (B, 3, H, W), of any range.
        known: (B, 1, H, W), true for the pixels that stay.
        otherwise: (3,), the colour of an image of which nothing is known.
    """
    weight = known.to(images.dtype)
    filled = torch.where(known, images, _fill(images * weight, weight, otherwise.to(images).view(1, -1, 1, 1)))
    for _ in range(_SMOOTHINGS):
        around = F.avg_pool2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        filled = torch.where(known, images, around)
    return filled


def _fill(values: Tensor, weight: Tensor, otherwise: Tensor) -> Tensor:
    """Return values for all pixels, of which those with a weight of 1 are known and the others are 0."""
    height, width = values.shape[-2:]
    if height == width == 1:
        return torch.where(weight > 0, values, otherwise)
    padding = (0, width % 2, 0, height % 2)
    summed, count = F.avg_pool2d(F.pad(values, padding), 2), F.avg_pool2d(F.pad(weight, padding), 2)
    smaller = torch.where(count > 0, summed / count.clamp(min=1e-6), summed)
    coarse = _fill(smaller, (count > 0).to(values.dtype), otherwise)
    return torch.where(weight > 0, values, F.interpolate(coarse, size=(height, width), mode="bilinear"))
