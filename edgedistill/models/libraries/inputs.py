"""Networks that take other inputs, or return other outputs, than the rest of the program expects."""

from typing import Any

import torch
from torch import Tensor, nn

# Of ITU-R 601, as Pillow and torchvision turn colours grey; they add up to 1.
_GREY = (0.299, 0.587, 0.114)


class GreyInput(nn.Module):
    """Feeds a network of one channel with the grey of normalised images (N, 3, H, W).

    All three channels have the same mean and deviation, so the grey of normalised images is the normalised grey.
    """

    weights: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("weights", torch.tensor(_GREY).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Any:
        """Return the network's output (N, C) for the grey images."""
        return self.network((images * self.weights).sum(dim=1, keepdim=True))


class FlippedInput(nn.Module):
    """Feeds a network with blue, green, red in place of red, green, blue."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        """Return the network's output (N, C) for images (N, 3, H, W) in the other order of colours."""
        return self.network(images.flip(1))


class LogitsOutput(nn.Module):
    """Returns the logits of a network whose output is an object with logits among other things."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, C)."""
        output = self.network(images)
        logits: Tensor = output.logits
        return logits
