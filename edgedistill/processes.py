"""What several training processes must agree on: averages over all of them."""

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_reduce


def process_count() -> int:
    """Return how many processes train together; 1 when nothing was launched."""
    running = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if running else 1


def mean_over_processes(values: Tensor) -> Tensor:
    """Average a tensor over the processes, with its gradient.

    Every process must call this, with a tensor of the same shape; each counts the same, as their shares of a batch do.
    """
    count = process_count()
    if count == 1:
        return values
    total: Tensor = all_reduce(values)
    return total / count


def gathered(values: Tensor) -> Tensor:
    """Return the tensors (...) of all processes as (processes, ...), without a gradient; one of its own where there is one."""
    count = process_count()
    if count == 1:
        return values[None]
    parts = [torch.empty_like(values) for _ in range(count)]
    distributed.all_gather(parts, values.contiguous())
    return torch.stack(parts)
