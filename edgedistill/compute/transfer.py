"""Copies between the host and the device of the training that the host does not wait for.

A training step that reads a number from a GPU waits until the GPU has done all that was asked of it, and the GPU then
waits for the next step to be asked. These copies are queued like any other work instead.
"""

import torch
from torch import Tensor


def send(values: Tensor, device: torch.device) -> Tensor:
    """Start a copy of a host's tensor to the device, and return it: what is queued there later finds it complete."""
    if device.type == "cuda" and values.device.type == "cpu" and not values.is_pinned():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class Fetched:
    """A tensor's values on their way to the host; the tensor may change as soon as this is made."""

    def __init__(self, values: Tensor) -> None:
        self._arrival: torch.cuda.Event | None = None
        if values.device.type == "cuda":
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values.detach(), non_blocking=True)
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._arrival.record(torch.cuda.current_stream(values.device))
        else:
            # Only CUDA can say when a copy is complete.
            self._values = values.detach().to("cpu", copy=True)

    @property
    def has_arrived(self) -> bool:
        """Whether `values` would not wait."""
        return self._arrival is None or bool(self._arrival.query())  # type: ignore[no-untyped-call]

    def values(self) -> Tensor:
        """Return the values on the host; wait for them where they have not arrived."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return self._values
