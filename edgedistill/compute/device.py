"""The device that networks run on outside training, and a network's stay there."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from edgedistill_deploy.errors import UsageError


def find_device(compute: str) -> torch.device:
    """Return the device of a setting `compute`: auto, cpu, cuda or mps; auto is the fastest that is there.

    Raises:
        UsageError: this machine lacks it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [name for name, there in available.items() if there]
    if compute != "auto" and compute not in present:
        raise UsageError(f"compute = {compute!r} is not available on this machine; it has: {', '.join(present)}.")
    return torch.device(present[0] if compute == "auto" else compute)


@contextlib.contextmanager
def staying_on(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Move a model to a device for the block, then back."""
    before = next(model.parameters()).device
    model.to(device)
    try:
        yield
    finally:
        model.to(before)
