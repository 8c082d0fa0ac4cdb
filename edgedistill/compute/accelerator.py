"""Where training runs: the device, the number format, and the processes that share it."""

import contextlib
import datetime
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from edgedistill.config import DistillConfig
from edgedistill_deploy.errors import UsageError

LONGEST_WAIT = datetime.timedelta(days=2)


@contextlib.contextmanager
def on_device(
    teachers: Sequence[nn.Module], student: nn.Module, config: DistillConfig, accelerator: Accelerator
) -> Iterator[None]:
    """Move all networks to the training device; the teachers get their memory layout back afterwards."""
    wanted = memory_format(config)
    student.to(accelerator.device, memory_format=wanted)  # type: ignore[call-overload]  # its stub knows no memory_format here
    for teacher in teachers:
        teacher.to(accelerator.device, memory_format=wanted)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for teacher in teachers:
            teacher.to(memory_format=torch.contiguous_format)


def open_accelerator(config: DistillConfig) -> Accelerator:
    """Open Accelerate for the device, the number format and the processes of a run.

    Raises:
        UsageError: this machine lacks the device or the number format, or the processes cannot share a batch equally.
    """
    compute = config.compute
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if compute != "auto" and not available[compute]:
        present = ", ".join(name for name, there in available.items() if there)
        raise UsageError(f"compute = {compute!r} is not available on this machine; it has: {present}.")
    on_cuda = available["cuda"] and compute in ("auto", "cuda")
    if config.mixed_precision == "fp16" and not on_cuda:
        raise UsageError("mixed_precision = 'fp16' needs a CUDA GPU; on this machine take 'bf16' or 'no'.")
    # Accelerate keeps the number format of the process's first run, which may differ.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=compute == "cpu",
        mixed_precision=config.mixed_precision,
        kwargs_handlers=[
            # The others wait while the first process writes the teacher's cache, which can take hours.
            InitProcessGroupKwargs(timeout=LONGEST_WAIT),
            # With the layer terms alone the head gets no gradient.
            DistributedDataParallelKwargs(find_unused_parameters=not (config.lambda_kd or config.lambda_task)),
        ],
    )
    if config.batch_size % accelerator.num_processes:
        raise UsageError(
            f"batch_size counts the images of one step, which {accelerator.num_processes} processes share equally, and"
            f" {config.batch_size} was given; give a multiple of {accelerator.num_processes}."
        )
    return accelerator


def memory_format(config: DistillConfig) -> torch.memory_format:
    """Return the order in which images and convolutions lie in memory."""
    return torch.channels_last if config.channels_last else torch.contiguous_format
