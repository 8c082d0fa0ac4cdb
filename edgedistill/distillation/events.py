"""What a training run reports: where it is, and the results of each finished epoch. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from edgedistill.distillation.standing import Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of metrics.jsonl: losses are means over the epoch's images, weighted as in the objective."""

    epoch: int
    loss: float
    loss_kd: float
    loss_task: float
    loss_layers: Mapping[str, float]
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a run is; `phase` is subspaces, tuning, teacher-cache, training, validation or standing.

    `terms` are the epoch's mean losses so far (`kd`, `task`, `layer:NAME`); `last` is the last finished epoch.
    `standing` comes at most once a run, in the phase of that name: the student has learnt nothing, or never answers
    with some class, although a fair share of its epochs is over.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    terms: Mapping[str, float] = field(default_factory=dict)
    last: EpochRecord | None = None
    cache_bytes: int = 0
    standing: Standing | None = None


Watcher = Callable[[TrainingProgress], None]


def ignore(_: object) -> None:
    """Watch nothing."""
