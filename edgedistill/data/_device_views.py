"""Views cut out of a batch on its device, bit for bit as `augment.cut_view` cuts them one by one."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedistill.data.augment import View

# Pillow's fixed-point weights of 8-bit images have so many bits after the point.
_BITS = 22

Whole: TypeAlias = NDArray[np.int64]


def cut_views(pixels: Tensor, views: Sequence[View]) -> Tensor:
    """Cut a view out of each image of a batch, uint8 (N, H, W, 3), on the batch's device.

    No rectangle may be larger than the image: each output pixel is then a mean of two, first along W, then along H,
    rounded after each, as Pillow's bilinear filter does it.
    """
    numbers = np.array([view.numbers() for view in views], dtype=np.int64)
    top, left, height, width, flipped = numbers.T[:, :, None]
    at, weights = _taps(left, width, pixels.shape[2])
    mirrored = flipped[:, :, None] > 0
    at, weights = (np.where(mirrored, each[:, ::-1], each) for each in (at, weights))
    return _blend(_blend(pixels, at, weights, 2), *_taps(top, height, pixels.shape[1]), 1)


def _taps(start: Whole, length: Whole, size: int) -> tuple[Whole, Whole]:
    """Return the two inputs (N, size, 2) that each output mixes, and their weights, for rectangles (N, 1) of an axis.

    A rectangle of the image's own size is a shift: it takes one input, and repeats the edge.
    """
    outputs = np.arange(size)
    centre = start + (outputs + 0.5) * (length / size)
    first = np.maximum((centre - 0.5).astype(np.int64), 0)
    end = np.minimum((centre + 1.5).astype(np.int64), size)
    near = np.maximum(1 - np.abs(first - centre + 0.5), 0)
    far = np.where(first + 1 < end, np.maximum(1 - np.abs(first + 1 - centre + 0.5), 0), 0)
    total = np.where(near + far > 0, near + far, 1)
    weights = (0.5 + np.stack([near / total, far / total], axis=2) * (1 << _BITS)).astype(np.int64)
    at = np.stack([first, first + 1], axis=2)
    shifted = np.broadcast_to((start + outputs)[:, :, None], at.shape)
    is_shift = (length == size)[:, :, None]
    at = np.clip(np.where(is_shift, shifted, at), 0, size - 1)
    return at, np.where(is_shift, np.array([1 << _BITS, 0]), weights)


def _blend(pixels: Tensor, at: Whole, weights: Whole, axis: int) -> Tensor:
    """Mix two pixels into each output along an axis (1 or 2) of (N, H, W, 3)."""
    shape = (len(at), -1, 1, 1) if axis == 1 else (len(at), 1, -1, 1)
    total = torch.full((), 1 << (_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap in (0, 1):
        index, share = (
            torch.from_numpy(each[:, :, tap].astype(kind)).to(pixels.device, non_blocking=True).view(shape)
            for each, kind in ((at, np.int64), (weights, np.int32))
        )
        total = total + pixels.gather(axis, index.expand_as(pixels)).int() * share
    return (total >> _BITS).clamp(0, 255).to(torch.uint8)
