"""Random views of a prepared training image."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

# Random crops shift the image by up to this part of its side: 4 of 32 pixels, as in the paper's CIFAR setting.
SHIFT_FRACTION = 1 / 8
# The area and aspect of a random resized crop, as timm and torchvision have it for ImageNet; a gentler least area, since
# distillation wants the object in view.
AREA = (0.35, 1.0)
ASPECT = (3 / 4, 4 / 3)


def shift(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Move the image (H, W, 3) by a random offset; what enters at the border repeats the edge."""
    height, width = pixels.shape[:2]
    reach = (round(height * SHIFT_FRACTION), round(width * SHIFT_FRACTION))
    top, left = (int(generator.integers(0, 2 * each + 1)) for each in reach)
    padded = np.pad(pixels, ((reach[0], reach[0]), (reach[1], reach[1]), (0, 0)), mode="edge")
    return padded[top : top + height, left : left + width]


def flip(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Mirror the image left to right, every second time."""
    return pixels[:, ::-1] if generator.random() < 0.5 else pixels


def resized_crop(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Cut a random rectangle out and stretch it to the full size."""
    height, width = pixels.shape[:2]
    area = height * width * generator.uniform(*AREA)
    aspect = np.exp(generator.uniform(*np.log(ASPECT)))
    crop_width = min(width, max(1, round(np.sqrt(area * aspect))))
    crop_height = min(height, max(1, round(np.sqrt(area / aspect))))
    left = int(generator.integers(0, width - crop_width + 1))
    top = int(generator.integers(0, height - crop_height + 1))
    box = (left, top, left + crop_width, top + crop_height)
    view = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(view)


# What `augment = "..."` may name; each is the list of steps in order.
AUGMENTATIONS: dict[str, tuple[Callable[[Pixels, np.random.Generator], Pixels], ...]] = {
    "none": (),
    "crop": (shift,),
    "crop-flip": (shift, flip),
    "resized-crop": (resized_crop,),
    "resized-crop-flip": (resized_crop, flip),
}


def augmented(pixels: Pixels, augment: str, generator: np.random.Generator) -> Pixels:
    """Apply the named augmentation to one prepared image, uint8 (H, W, 3)."""
    for step in AUGMENTATIONS[augment]:
        pixels = step(pixels, generator)
    return pixels
