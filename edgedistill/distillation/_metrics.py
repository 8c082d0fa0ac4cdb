"""The figures of an epoch: computes its mean losses, and writes its record to TensorBoard."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from edgedistill.distillation.events import EpochRecord
from edgedistill_deploy.errors import MissingDependencyError


class RunningMeans:
    """Means of named terms, weighted by the number of images that each is about."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, float], count: int, labelled_count: int) -> None:
        """Add the terms of `count` images; the label term, `task`, is about `labelled_count` of them."""
        for name, value in terms.items():
            about = labelled_count if name == "task" else count
            self._sums[name] = self._sums.get(name, 0.0) + value * about
            self._counts[name] = self._counts.get(name, 0) + about

    def values(self) -> dict[str, float]:
        """Return the means so far; that of a term about no image is 0."""
        return {name: value / max(1, self._counts[name]) for name, value in self._sums.items()}

    def over(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over the images of all processes."""
        if accelerator.num_processes == 1:
            return self.values()
        sums = torch.tensor([[*self._sums.values()], [*self._counts.values()]], dtype=torch.float32)
        totals, counts = accelerator.reduce(sums.to(accelerator.device), reduction="sum").tolist()
        return {name: total / max(1.0, count) for name, total, count in zip(self._sums, totals, counts, strict=True)}


@contextlib.contextmanager
def metrics_writer(folder: Path | None) -> Iterator[Callable[[EpochRecord], None]]:
    """Yield a function that writes an epoch's record to TensorBoard, or does nothing without a folder."""
    if folder is None:
        yield lambda _: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependencyError("tensorboard", "tensorboard", "tensorboard = true") from error
    with SummaryWriter(folder / "tensorboard") as writer:
        yield lambda record: _add_scalars(writer, record)
        writer.flush()


def _add_scalars(writer: Any, record: EpochRecord) -> None:
    numbers = asdict(record)
    numbers |= {f"loss_layers/{name}": value for name, value in numbers.pop("loss_layers").items()}
    epoch = numbers.pop("epoch")
    for name, value in numbers.items():
        writer.add_scalar(name, value, epoch)
