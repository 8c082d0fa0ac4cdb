"""How many images a pass forward and backward takes at once, by the memory that their activations need."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.compute.memory import free_bytes

# A batch of fewer numbers needs no look: activations of so many are small in any network.
_SMALL = 1 << 20
# More images at once make a processor no faster than this many bytes of activations do.
_MOST_BYTES = 512 << 20


def images_at_once(look: Callable[[Tensor], Any], images: Tensor, model: nn.Module) -> int:
    """Return how many images of a batch (N, 3, H, W) to give to `look` at once, 1 to N.

    `look` makes a pass of `model` forward and backward. It is tried on one image, to count what the graph holds for it.
    """
    if len(images) < 2 or images.numel() < _SMALL:
        return len(images)
    free = free_bytes(images.device)
    most = _MOST_BYTES if images.device.type == "cpu" else 2 * _MOST_BYTES if free is None else free // 2
    if free is not None:
        most = min(most, free // 2)
    return max(1, min(len(images), most // max(1, _held_bytes(look, images[:1], model))))


def _held_bytes(look: Callable[[Tensor], Any], images: Tensor, model: nn.Module) -> int:
    """Return how many bytes the graph of a pass holds between forward and backward, without weights."""
    weights = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers())}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        look(images)
    return sum(held.values())
