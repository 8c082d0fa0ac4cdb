"""Where training runs: the device, the number format, and the processes that share it."""

import contextlib
import datetime
from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from torch import nn

from edgedistill.compute.processes import process_count
from edgedistill.config import DistillConfig
from edgedistill_deploy.errors import UsageError

LONGEST_WAIT = datetime.timedelta(days=2)
# The compute capability of the first GPUs with bfloat16; older ones imitate it, slowly.
FIRST_WITH_BFLOAT16 = (8, 0)


@contextlib.contextmanager
def on_device(
    teachers: Sequence[nn.Module], student: nn.Module, config: DistillConfig, accelerator: Accelerator
) -> Iterator[None]:
    """Move all networks to the training device; they get their memory layout back afterwards."""
    wanted = memory_format(config)
    student.to(accelerator.device, memory_format=wanted)  # type: ignore[call-overload]  # its stub knows no memory_format here
    for teacher in teachers:
        teacher.to(accelerator.device, memory_format=wanted)  # type: ignore[call-overload]
    try:
        yield
    finally:
        for network in (*teachers, student):
            network.to(memory_format=torch.contiguous_format)


def open_accelerator(config: DistillConfig) -> Accelerator:
    """Open Accelerate for the device, the number format and the processes of a run.

    Raises:
        UsageError: this machine lacks the device or the number format, or the processes cannot share a batch equally.
    """
    compute, config = config.compute, with_formats(config)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if compute != "auto" and not available[compute]:
        present = ", ".join(name for name, there in available.items() if there)
        raise UsageError(f"compute = {compute!r} is not available on this machine; it has: {present}.")
    if config.mixed_precision == "fp16" and not _on_cuda(config):
        raise UsageError("mixed_precision = 'fp16' needs a CUDA GPU; on this machine take 'bf16' or 'no'.")
    # Accelerate keeps the device and the number format of the process's first run, which may differ. Processes that
    # train together keep their device.
    AcceleratorState._reset_state(reset_partial_state=process_count() == 1)
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


def with_formats(config: DistillConfig) -> DistillConfig:
    """Return the settings with the formats that suit the device, where they are left to it.

    On a CUDA GPU that computes in bfloat16 itself (Ampere and later) the networks run in it; on any CUDA GPU images and
    convolutions lie channels last. Elsewhere they are in single precision, channels first.
    """
    on_cuda = _on_cuda(config)
    has_bfloat16 = on_cuda and torch.cuda.get_device_capability() >= FIRST_WITH_BFLOAT16
    return config.for_device(mixed_precision="bf16" if has_bfloat16 else "no", channels_last=on_cuda)


def _on_cuda(config: DistillConfig) -> bool:
    return config.compute in ("auto", "cuda") and torch.cuda.is_available()


def memory_format(config: DistillConfig) -> torch.memory_format:
    """Return the order in which images and convolutions lie in memory; `config` is of `with_formats`."""
    return torch.channels_last if config.channels_last is True else torch.contiguous_format


@contextlib.contextmanager
def own_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    """Seed torch's generators of the host and of the device inside the block, then give both their state back."""
    with forked_random_numbers(device):
        # `torch.manual_seed` seeds every GPU too.
        (torch.default_generator.manual_seed if device.type == "cpu" else torch.manual_seed)(seed)
        yield


def forked_random_numbers(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Give torch's generators of the host and of the device their state back after the block.

    Those of other GPUs stay alone: to ask for their state would start all of them.
    """
    own: dict[str, list[torch.device]] = {"cuda": [device], "cpu": []}
    return torch.random.fork_rng(devices=own.get(device.type))
