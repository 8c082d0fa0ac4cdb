"""How much memory a device of the training has free."""

import torch

from edgedistill_deploy.hardware.memory import read_free_memory_bytes


def free_bytes(device: torch.device) -> int | None:
    """Return how many bytes more a device can hold, the CPU by the machine and a container's limit; None if unknown."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free) + unused
    return read_free_memory_bytes() if device.type == "cpu" else None
