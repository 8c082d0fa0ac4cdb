"""A network tried on one batch before a long run: whether it takes such images, and can learn from them."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill_deploy.errors import EdgeDistillError, UsageError

_REASON_LENGTH = 200  # of torch's message
_ONE_VALUE = "more than 1 value per channel"
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")


def try_network(role: str, network: nn.Module, images: Tensor, batch_size: int) -> None:
    """Run a network, in the mode that it is in, on a batch (N, 3, H, W), and back if it learns.

    `role` is "teacher" or "student", and `batch_size` is what the user gave. The gradients and the statistics of batch
    normalisation change, so a network that is to be kept is tried as a copy.

    Raises:
        UsageError: the network does not take images of this size, or its batch normalisation cannot train on the batch.
        EdgeDistillError: the memory is too small for the batch.
    """
    entered: list[str] = []
    try:
        with _noting(network, entered):
            found = network(images)
        if torch.is_tensor(found) and found.requires_grad:
            found.float().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
        raise _explain(role, entered[-1] if entered else "", images, batch_size, error) from error


@contextlib.contextmanager
def _noting(network: nn.Module, entered: list[str]) -> Iterator[None]:
    """Note the names of the modules as they begin to run."""

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, given: entered.append(name)

    handles = [module.register_forward_pre_hook(note(name)) for name, module in network.named_modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _explain(role: str, layer: str, images: Tensor, batch_size: int, error: Exception) -> EdgeDistillError:
    count, (height, width) = len(images), images.shape[2:]
    reason = " ".join(str(error).split())[:_REASON_LENGTH].rstrip(". ") or type(error).__name__
    where = f" at {layer}" if layer else ""
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(each in reason.lower() for each in _NO_MEMORY):
        return EdgeDistillError(
            f"A batch of {count} images of {height} x {width} needs more memory than {images.device} has for the {role}"
            f"{where}; give a smaller --batch-size than {batch_size}, or smaller images with --image-size."
        )
    if _ONE_VALUE in reason:
        return UsageError(
            f"The {role} cannot train on a batch of {count} images of {height} x {width}: batch normalisation{where} "
            f"gets a single value there. Give a larger --batch-size than {batch_size}, more training images, or "
            "larger ones with --image-size."
        )
    return UsageError(
        f"The {role} does not take images of {height} x {width}{where}: {reason}. Give another --image-size, or "
        f"another {role} with --{role}."
    )
