"""The cost of a model, which does not depend on the machine: parameters and multiply-adds."""

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from edgedistill.networks.modes import evaluating


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """Parameters and the multiply-adds of one image."""

    parameters: int
    multiply_adds: int

    def to_json(self) -> dict[str, int]:
        """Return the fields as a dictionary."""
        return asdict(self)


def count_cost(model: nn.Module, image_size: tuple[int, int]) -> ModelCost:
    """Count the cost of one image (1, 3, H, W); multiply-adds are half of the operations that torch's counter finds."""
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *image_size, device=device))
    parameters = sum(each.numel() for each in model.parameters())
    return ModelCost(parameters=parameters, multiply_adds=counter.get_total_flops() // 2)
