"""Averages over all training processes, so that they agree."""

from typing import Any

import torch
from torch import Tensor, distributed, nn


def process_count() -> int:
    """Return how many processes train together; 1 when nothing was launched."""
    running = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if running else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Average a tensor over the processes, with its gradient.

    Every process must call this with a tensor of the same shape; all count equally, as their shares of a batch do.
    """
    count = process_count()
    if count == 1:
        return values
    total: Tensor = _Sum.apply(values)
    return total / count


class _Sum(torch.autograd.Function):
    """The sum over all processes, which depends on the term of each process."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return _sum_over_processes(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _sum_over_processes(gradients[0])


def _sum_over_processes(values: Tensor) -> Tensor:
    total = values.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total)
    return total


@torch.no_grad()
def average_buffers(network: nn.Module) -> None:
    """Replace the buffers, which are statistics of batch norm, by their means over all processes."""
    if process_count() == 1:
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.copy_(mean_over_processes(buffer))


def gather(values: Tensor) -> Tensor:
    """Return the tensors (...) of all processes as (processes, ...), without a gradient."""
    count = process_count()
    if count == 1:
        return values[None]
    parts = [torch.empty_like(values) for _ in range(count)]
    distributed.all_gather(parts, values.contiguous())
    return torch.stack(parts)


def disband() -> None:
    """End the group of training processes together; a process that ends earlier may abort the others."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
