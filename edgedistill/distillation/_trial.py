"""One batch before the run begins: whether teacher and student take the images, and batches of these sizes."""

import contextlib
import copy
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgedistill.compute.accelerator import memory_format
from edgedistill.config import DistillConfig
from edgedistill.data.loader import batch_shares
from edgedistill.distillation.lesson import Lesson
from edgedistill.networks.modes import evaluating
from edgedistill_deploy.errors import EdgeDistillError, UsageError

_REASON_LENGTH = 200  # of torch's message
_ONE_VALUE = "more than 1 value per channel"
_NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")


def try_batches(lesson: Lesson, student: nn.Module, config: DistillConfig, accelerator: Accelerator) -> None:
    """Run the teacher on a batch, and train a copy of the student on one batch of each size that the run will have.

    Nothing that the run uses changes: neither a network nor the state of a random generator.

    Raises:
        UsageError: a network does not take images of this size, or its batch normalisation cannot train on the batch.
        EdgeDistillError: the memory is too small for a batch.
    """
    sizes = batch_shares(len(lesson.images.train), config.batch_size, accelerator.num_processes)
    normalise = lesson.teacher.normalise().to(accelerator.device)
    with torch.random.fork_rng():
        learner = copy.deepcopy(student).train()
        for place, size in enumerate(sizes):
            pixels = torch.randint(0, 256, (size, *lesson.teacher.preprocess.size, 3), dtype=torch.uint8)
            images = normalise(pixels.to(accelerator.device)).contiguous(memory_format=memory_format(config))
            if place == 0:
                with evaluating(lesson.teacher.model), torch.no_grad():
                    _try("teacher", lesson.teacher.model, images, config, accelerator)
            _try("student", learner, images, config, accelerator)


def _try(role: str, network: nn.Module, images: Tensor, config: DistillConfig, accelerator: Accelerator) -> None:
    entered: list[str] = []
    try:
        with _noting(network, entered), accelerator.autocast():
            found = network(images)
        if torch.is_tensor(found) and found.requires_grad:
            found.float().sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError) as error:
        raise _explain(role, entered[-1] if entered else "", images, config, error) from error


@contextlib.contextmanager
def _noting(network: nn.Module, entered: list[str]) -> Iterator[None]:
    """Note the names of the modules as they begin to run."""

    def noting(name: str) -> "torch.utils.hooks.RemovableHandle":
        return modules[name].register_forward_pre_hook(lambda module, given: entered.append(name))

    modules = dict(network.named_modules())
    handles = [noting(name) for name in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _explain(role: str, layer: str, images: Tensor, config: DistillConfig, error: Exception) -> EdgeDistillError:
    count, (height, width) = len(images), images.shape[2:]
    reason = " ".join(str(error).split())[:_REASON_LENGTH].rstrip(". ") or type(error).__name__
    where = f" at {layer}" if layer else ""
    if isinstance(error, torch.cuda.OutOfMemoryError) or any(each in reason.lower() for each in _NO_MEMORY):
        return EdgeDistillError(
            f"A batch of {count} images of {height} x {width} needs more memory than {images.device} has for the {role}"
            f"{where}; give a smaller --batch-size than {config.batch_size}, or smaller images with --image-size."
        )
    if _ONE_VALUE in reason:
        return UsageError(
            f"The {role} cannot train on a batch of {count} images of {height} x {width}: batch normalisation{where} "
            f"gets a single value there. Give a larger --batch-size than {config.batch_size}, more training images, or "
            "larger ones with --image-size."
        )
    return UsageError(
        f"The {role} does not take images of {height} x {width}{where}: {reason}. Give another --image-size, or "
        f"another {role} with --{role}."
    )
