"""Images at the limits of what a model takes: a sound model gives finite logits for them too.

No photograph is as dark, as bright or as rough. So a division by a standard deviation of 0, for example, shows here
and on no evaluation image.
"""

import numpy as np
from numpy.typing import NDArray

_COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
}
LIMIT_NAMES = (*_COLOURS, "noise")
_SEED = 0


def limit_images(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an image for each of `LIMIT_NAMES`, uint8 (7, H, W, 3); the noise is always the same."""
    height, width = size
    flat = [np.full((height, width, 3), colour, np.uint8) for colour in _COLOURS.values()]
    noise = np.random.default_rng(_SEED).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([*flat, noise])
