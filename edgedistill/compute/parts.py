"""Batches in parts, where a network answers without gradients: on a processor small parts take half the time.

The activations of a large batch lie in blocks that the system takes back after every layer and clears before it hands
them out again. Those of a part are used again. `python -m benchmarks.parts` measures it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# In the images of a part: 8 of 224 pixels, 16 of 160.
NUMBERS = 1_250_000


def parts_of(images: Tensor) -> Sequence[Tensor]:
    """Return a batch (N, ...) in parts (n, ...) in their order; whole where it is not on a processor, or is small."""
    if images.device.type != "cpu" or images.numel() <= NUMBERS:
        return (images,)
    return torch.split(images, max(1, NUMBERS // images[0].numel()))


def answer_in_parts(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the answers (N, C) to a batch (N, ...), which do not depend on what else is in the batch."""
    parts = parts_of(images)
    return model(images) if len(parts) == 1 else torch.cat([model(part) for part in parts])
