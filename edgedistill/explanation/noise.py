"""Whether a map stays as it is when the image gets a little noise (Yeh et al. 2019)."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edgedistill.explanation.agreement import Map, compare_maps

LEVELS = 4  # of 255, either way: hardly visible in a photograph
CHANGE = "change"
_NOISE = 1  # sets these draws apart from the random orders of the same seeds


def add_noise(pixels: Tensor, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """Return images (B, H, W, 3) with uniform noise of up to `LEVELS` on each value, within 0 and 255, as float32.

    Each image has a seed, which fixes its noise whatever images are beside it.
    """
    drawn = [np.random.default_rng((*seed, _NOISE)).uniform(-LEVELS, LEVELS, pixels.shape[1:]) for seed in seeds]
    noise = torch.from_numpy(np.stack(drawn).astype(np.float32))
    return (pixels.float() + noise.to(pixels.device)).clamp(0, 255)


def compare_noisy(clean: Map, noisy: Map) -> dict[str, float]:
    """Return the measures of `compare_maps` of an image's map and that with noise (H, W), and by how much it changed.

    `change` is the norm of the difference in parts of the norm of the map without noise, the sensitivity of Yeh et al.
    A map that was 0 everywhere, and is so no more, has changed by 1.
    """
    size, difference = np.linalg.norm(clean), np.linalg.norm(noisy - clean)
    change = difference / size if size else np.sign(difference)
    return {**compare_maps(clean, noisy), CHANGE: float(change)}
