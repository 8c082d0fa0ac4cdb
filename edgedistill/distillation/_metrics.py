"""The figures of an epoch: its mean losses, the check that they are finite, and its record in TensorBoard."""

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from edgedistill.compute.transfer import Fetched
from edgedistill.config import DistillConfig
from edgedistill.distillation.events import EpochRecord
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _StepLosses:
    """The terms of one step on their way to the host, and how many images they are about."""

    names: tuple[str, ...]
    values: Fetched
    count: int
    labelled_count: int


class EpochLosses:
    """The losses of an epoch's steps: each is checked, and their means are kept, as soon as they have come to the host.

    On a CPU that is at once. On a GPU it may be some steps later, because no step waits for it.
    """

    def __init__(self, config: DistillConfig) -> None:
        self._config = config
        self._underway: deque[_StepLosses] = deque()
        self._means = RunningMeans()

    def add(self, terms: Mapping[str, Tensor], count: int, labelled_count: int) -> Tensor:
        """Add the terms of a step, scalars; return their sum. The counts are those of `RunningMeans.add`.

        Raises:
            EdgeDistillError: a term that has come by now is not finite, of this step or an earlier one.
        """
        values = torch.stack(list(terms.values()))
        # One copy from the device for all terms.
        step = _StepLosses(names=tuple(terms), values=Fetched(values), count=count, labelled_count=labelled_count)
        self._underway.append(step)
        while self._underway and self._underway[0].values.has_arrived:
            self._take(self._underway.popleft())
        return values.sum()

    def so_far(self) -> dict[str, float]:
        """Return the means over the steps whose terms have come."""
        return self._means.values()

    def over(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means over all steps, and the images of all processes.

        Raises:
            EdgeDistillError: a term is not finite.
        """
        while self._underway:
            self._take(self._underway.popleft())
        return self._means.over(accelerator)

    def _take(self, step: _StepLosses) -> None:
        numbers = dict(zip(step.names, step.values.values().tolist(), strict=True))
        _check_finite(numbers, self._config)
        self._means.add(numbers, step.count, step.labelled_count)


def _check_finite(terms: Mapping[str, float], config: DistillConfig) -> None:
    """Name the first layer whose term is not finite: it spoils the terms of all later layers and of the logits."""
    wrong = [name for name, value in terms.items() if not math.isfinite(value)]
    if wrong:
        layers = [name.removeprefix("layer:") for name in wrong if name.startswith("layer:")]
        where = f"the student's or the teacher's features at layer {layers[0]!r}" if layers else repr(wrong[0])
        raise EdgeDistillError(
            f"Training stopped: the loss of {where} is no longer a finite number. Lower learning_rate (now"
            f" {config.learning_rate}) or the term's weight, or set gradient_clip."
        )


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
