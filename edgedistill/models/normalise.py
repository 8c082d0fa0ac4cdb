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
        if self._is_plain(image):
            return self._row_by_row(image)
        return image.float().permute(0, 3, 1, 2) * self.norm_scale + self.norm_shift

    def _is_plain(self, image: Tensor) -> bool:
        """Return whether the faster way fits: on a processor, and not into a graph, which stays as it was."""
        kinds = (image.device.type, image.dtype, self.norm_scale.dtype, self.norm_shift.dtype)
        is_traced = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]  # torch gives it no types
        return not (is_traced or torch.compiler.is_compiling()) and kinds == (
            "cpu",
            torch.uint8,
            torch.float32,
            torch.float32,
        )

    def _row_by_row(self, image: Tensor) -> Tensor:
        """Do the same, bit for bit and laid out alike, in one buffer and with a number for each byte of a row.

        A processor takes several times as long where its inner loop has the length of the three channels, and where
        every operation fills memory of its own.
        """
        scale, shift = (each.flatten().repeat(image.shape[2]) for each in (self.norm_scale, self.norm_shift))
        rows = image.flatten(2).float()
        return rows.mul_(scale).add_(shift).view(image.shape).permute(0, 3, 1, 2)


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
