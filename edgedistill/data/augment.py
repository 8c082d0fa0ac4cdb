"""Random views of a prepared training image: drawn first, then cut, so that a view can be stored and cut again.

`cut_view` cuts one out of an image, and `cut_batch` those of many, one image after another; `cut_views` cuts those of a
whole batch on its device. All three give the same pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
Whole: TypeAlias = npt.NDArray[np.int64]

# Pillow's fixed-point weights of 8-bit images have so many bits after the point.
_BITS = 22

# Random crops shift the image by up to this part of its side: 4 of 32 pixels, as in the paper's CIFAR setting.
SHIFT_FRACTION = 1 / 8
# Area and aspect of a random resized crop, as in timm and torchvision for ImageNet. The least area is larger here, so
# that the object stays in view.
AREA = (0.35, 1.0)
ASPECT = (3 / 4, 4 / 3)
_LOG_ASPECT = np.log(ASPECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A rectangle of an image, in pixels, to be stretched to the image's size and perhaps mirrored.

    The rectangle may cross the border; pixels outside repeat the edge.
    """

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False

    def numbers(self) -> tuple[int, int, int, int, int]:
        """Return the view as whole numbers, as it is stored."""
        return self.top, self.left, self.height, self.width, int(self.flipped)


def _shift(view: View, generator: np.random.Generator) -> View:
    """Move by a random offset."""
    reaches = (round(view.height * SHIFT_FRACTION), round(view.width * SHIFT_FRACTION))
    top, left = (int(generator.integers(-reach, reach + 1)) for reach in reaches)
    return replace(view, top=top, left=left)


def _crop_and_resize(view: View, generator: np.random.Generator) -> View:
    """Take a random rectangle inside the image."""
    area = view.height * view.width * generator.uniform(*AREA)
    aspect = np.exp(generator.uniform(*_LOG_ASPECT))
    width = min(view.width, max(1, round(np.sqrt(area * aspect))))
    height = min(view.height, max(1, round(np.sqrt(area / aspect))))
    left = int(generator.integers(0, view.width - width + 1))
    top = int(generator.integers(0, view.height - height + 1))
    return replace(view, top=top, left=left, height=height, width=width)


def _flip(view: View, generator: np.random.Generator) -> View:
    """Mirror left to right, every second time."""
    return replace(view, flipped=bool(generator.random() < 0.5))


# The values of `augment`: each is the list of its draws, in order.
AUGMENTATIONS: dict[str, tuple[Callable[[View, np.random.Generator], View], ...]] = {
    "none": (),
    "crop": (_shift,),
    "crop-flip": (_shift, _flip),
    "resized-crop": (_crop_and_resize,),
    "resized-crop-flip": (_crop_and_resize, _flip),
}


def draw_view(augment: str, size: tuple[int, int], generator: np.random.Generator) -> View:
    """Draw a view of an image of `size` (H, W) by the named augmentation."""
    view = View(top=0, left=0, height=size[0], width=size[1])
    for draw in AUGMENTATIONS[augment]:
        view = draw(view, generator)
    return view


def cut_view(pixels: Pixels, view: View) -> Pixels:
    """Cut a view out of a prepared image, uint8 (H, W, 3), at the image's size."""
    cut = np.empty_like(pixels)
    cut_batch(cut[None], [pixels], [view])
    return cut


def cut_batch(cut: Pixels, images: Iterable[Pixels], views: Sequence[View]) -> None:
    """Write a view of each image (H, W, 3) to its place in `cut`, uint8 (N, H, W, 3), which shares no memory with them.

    Rows are turned last: torch's threads wait for the next such work for a while, and would slow Pillow down.
    """
    for place, image, view in zip(cut, images, views, strict=True):
        _cut_into(place, image, view)
    for place, view in zip(cut, views, strict=True):
        if view.flipped:
            place[...] = torch.from_numpy(place).flip(1).numpy()  # numpy takes ten times as long to turn rows of pixels


def _cut_into(cut: Pixels, pixels: Pixels, view: View) -> None:
    """Write a view to its place, not mirrored."""
    height, width = pixels.shape[:2]
    if (view.height, view.width) == (height, width):
        _move_into(cut, pixels, view.top, view.left)
    else:
        box = (view.left, view.top, view.left + view.width, view.top + view.height)
        cut[...] = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, box=box))


def mix(pixels: Pixels, other: Pixels, share: float) -> Pixels:
    """Mix two images of one size, uint8 (H, W, 3): `share` of the first, and the rest of the other."""
    mixed: Pixels = np.rint(share * pixels + (1 - share) * other).astype(np.uint8)
    return mixed


def _move_into(cut: Pixels, pixels: Pixels, top: int, left: int) -> None:
    """Write the image, moved, a row at a time; what comes in from outside repeats the edge."""
    height, width = pixels.shape[:2]
    if top == left == 0:
        cut[...] = pixels
        return
    moved = pixels[np.clip(np.arange(top, top + height), 0, height - 1)]
    first = min(width, max(0, -left))
    end = max(first, min(width, width - left))
    cut[:, :first] = moved[:, :1]
    cut[:, first:end] = moved[:, first + left : end + left]
    cut[:, end:] = moved[:, -1:]


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
    taps = _on_device(np.stack([at, weights]).astype(np.int32), pixels.device)
    total = torch.full((), 1 << (_BITS - 1), dtype=torch.int32, device=pixels.device)
    for tap in (0, 1):
        index, share = (each[:, :, tap].reshape(shape) for each in taps)
        total = total + pixels.gather(axis, index.long().expand_as(pixels)).int() * share
    return (total >> _BITS).clamp(0, 255).to(torch.uint8)


def _on_device(numbers: npt.NDArray[np.int32], device: torch.device) -> Tensor:
    """Copy to the device; a GPU takes them from pinned memory, so that this process does not wait for it."""
    here = torch.from_numpy(numbers)
    return (here.pin_memory() if device.type == "cuda" else here).to(device, non_blocking=True)
