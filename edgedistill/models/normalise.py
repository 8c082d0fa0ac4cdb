"""From the uint8 images of the preprocessing contract to the floats that a network was trained on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """uint8 images (N, H, W, 3) to float32 (N, 3, H, W): x / 255, minus mean, over standard deviation, per channel.

    The teacher, the student in training and every exported graph contain one, so no device has to know the numbers.
    """

    norm_scale: Tensor
    norm_shift: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        spread = torch.tensor(std, dtype=torch.float64).view(1, 3, 1, 1)
        centre = torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("norm_scale", (1 / (255 * spread)).float(), persistent=False)
        self.register_buffer("norm_shift", (-centre / spread).float(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalise uint8 (N, H, W, 3) to float32 (N, 3, H, W).

        The cast comes first, because TensorRT takes uint8 only at a network's input; ONNX Runtime may reorder them.
        """
        return image.float().permute(0, 3, 1, 2) * self.norm_scale + self.norm_shift


def give_own_pixels(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
    """Note in a network that it takes pixels of its own mean and deviation, and not those of its teacher."""
    network.own_pixels = (tuple(mean), tuple(std))  # type: ignore[assignment]  # a note, neither tensor nor module


def share_own_pixels(network: nn.Module, source: nn.Module) -> None:
    """Note in a network around another one what is noted in that one, if anything is."""
    if pixels := _own_pixels(source):
        give_own_pixels(network, *pixels)


def normalise_of(network: nn.Module, otherwise: Normalise) -> Normalise:
    """Return how a network takes pixels: in its own way where one is noted in it, else in the given way."""
    pixels = _own_pixels(network)
    return Normalise(*pixels) if pixels else otherwise


def _own_pixels(network: nn.Module) -> Any:
    return getattr(network, "own_pixels", None)
