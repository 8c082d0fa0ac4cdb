"""The moving average of a network's weights and buffers."""

import itertools
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """A network whose weights and buffers follow those of another, with a decay per step.

    The first step copies. What is no floating-point number, such as a counter, is averaged and rounded down, as
    `AveragedModel` does. That class asks for the number of steps on the device at every step, for which the host waits;
    this one keeps it on the host.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take one step towards the weights and buffers of `model`, which is on the same device."""
        groups: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
        for mine, theirs in zip(_tensors(self.module), _tensors(model), strict=True):
            own, others = groups[mine.dtype]
            own.append(mine.detach())
            others.append(theirs.detach())
        starts = int(self.n_averaged) == 0
        for own, others in groups.values():
            if starts:
                torch._foreach_copy_(own, others)
            elif own[0].is_floating_point():
                torch._foreach_lerp_(own, others, 1 - self._decay)
            else:
                for mine, theirs in zip(own, others, strict=True):
                    mine.copy_(mine * self._decay + theirs * (1 - self._decay))
        self.n_averaged += 1


def build_average(student: nn.Module, decay: float) -> MovingAverage | None:
    """Return the moving average of a student's weights and buffers; None for a decay of 0."""
    return None if decay == 0 else MovingAverage(student, decay)


def _tensors(network: nn.Module) -> itertools.chain[Tensor]:
    return itertools.chain(network.parameters(), network.buffers())
