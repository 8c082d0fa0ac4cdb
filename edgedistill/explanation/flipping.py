"""Pixel flipping (Bach et al. 2015; Samek et al. 2017): patches are taken out of an image in the order of a map."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from edgedistill.explanation.inpainting import inpaint

# Shares of the patches that are taken out; close together where the first patches fall, which a map orders best.
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
_MOST_CELLS = 14  # along a side
_LEAST_PIXELS = 4  # along a patch's side

Order = NDArray[np.int64]


def patch_grid(height: int, width: int) -> tuple[int, int]:
    """Return how many patches lie along the two sides of an image, which are in pixels: at most 14."""
    rows, columns = (max(1, min(_MOST_CELLS, side // _LEAST_PIXELS)) for side in (height, width))
    return rows, columns


def order_by(maps: Tensor) -> Tensor:
    """Return the patches (B, P) of maps (B, H, W), those that speak most for the class first."""
    pooled = F.adaptive_avg_pool2d(maps[:, None], patch_grid(*maps.shape[-2:])).flatten(1)
    return pooled.argsort(dim=1, descending=True, stable=True)


def random_order(size: tuple[int, int], seed: tuple[int, ...]) -> Tensor:
    """Return the patches (P,) of an image of `size` (H, W) in an order that the seed fixes."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(math.prod(patch_grid(*size))))


def flip_patches(images: Tensor, order: Tensor, share: float, otherwise: Tensor) -> Tensor:
    """Take out the first patches of an order and fill them from what is around them.

    Args:
        images: (B, 3, H, W).
        order: patches of each image (B, P).
        share: of the patches, from 0 to 1.
        otherwise: (3,), the colour of an image without any pixel left.
    """
    size = images.shape[-2], images.shape[-1]
    rows, columns = patch_grid(*size)
    gone = torch.zeros(len(images), rows * columns, device=images.device)
    gone.scatter_(1, order[:, : round(share * rows * columns)].to(images.device), 1.0)
    known = F.interpolate(gone.view(-1, 1, rows, columns), size=size, mode="nearest") == 0
    return inpaint(images, known, otherwise)


def flipping_curves(
    images: Tensor, order: Tensor, otherwise: Tensor, evidence: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Return the evidence (B, shares) that each of several networks has left at each of `SHARES`.

    Args:
        images: (B, 3, H, W).
        order: patches of each image (B, P).
        otherwise: (3,), as for `flip_patches`.
        evidence: returns one (B,) for each network.
    """
    points = [evidence(flip_patches(images, order, share, otherwise)) for share in SHARES]
    return tuple(torch.stack(values, dim=1) for values in zip(*points, strict=True))


def area_under(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the area (...) under curves (..., shares) over `SHARES`, by the trapezoidal rule."""
    widths = np.diff(SHARES)
    areas: NDArray[np.float64] = np.sum((curve[..., 1:] + curve[..., :-1]) / 2 * widths, axis=-1)
    return areas
