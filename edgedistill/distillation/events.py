"""What a training run reports: where it is, what each epoch gave, and whether the student learns at all. No torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.config import TUNED, DistillConfig, read_view_count
from edgedistill.data.unlabelled import JudgedBy
from edgedistill_deploy.statistics.chance import AgainstChance, compare_with_chance
from edgedistill_deploy.wording import counted, percent, percent_interval

Counts = NDArray[np.int64]

# A student is judged during the training after this part of its epochs, and not before it had this many.
FAIR_PART = 3
FEWEST_EPOCHS = 3
# From so many validation images of a class on, "never" is no accident.
ENOUGH_OF_A_CLASS = 5


def fair_share(epochs: int) -> int:
    """Return after how many of the `epochs` a student must be better than chance."""
    return max(FEWEST_EPOCHS, math.ceil(epochs / FAIR_PART))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the best student so far answers the validation images.

    Attributes:
        epochs_done: finished epochs.
        against: its accuracy beside chance.
        unpredicted: the classes with at least five validation images that it never answers with.
        judged_by: "labels", or "teacher" where its answers stand in for labels that there are not.
    """

    epochs_done: int
    against: AgainstChance
    unpredicted: tuple[str, ...]
    judged_by: JudgedBy = "labels"

    @property
    def at_chance(self) -> bool:
        """Whether chance explains the accuracy, and the images would have shown a student half way to perfect."""
        return self.against.standing == "at_chance"

    @property
    def stops_a_build(self) -> bool:
        """Whether the stages after the training would be wasted. A run of fewer than three epochs is a mere trial."""
        return self.at_chance and self.epochs_done >= FEWEST_EPOCHS

    @property
    def is_doubtful(self) -> bool:
        """Whether there is something to tell the user."""
        return self.at_chance or bool(self.unpredicted)

    def sentence(self, config: DistillConfig, image_count: int) -> str:
        """Say what is wrong, the likely causes in order, and the flags to change; empty where nothing is wrong.

        `image_count` is that of the training images.
        """
        if not self.is_doubtful:
            return ""
        finding = self._chance_finding() if self.at_chance else self._class_finding()
        causes = _likely_causes(config, image_count)
        return f"after epoch {self.epochs_done} of {config.epoch_count} {finding}. {causes}"

    def to_json(self) -> dict[str, Any]:
        """Return the standing for the record of the distillation."""
        return {
            "epochs_done": self.epochs_done,
            "at_chance": self.at_chance,
            "stops_a_build": self.stops_a_build,
            "against_chance": asdict(self.against),
            "unpredicted": list(self.unpredicted),
            "judged_by": self.judged_by,
        }

    def _chance_finding(self) -> str:
        found = self.against
        does = "is right on" if self.judged_by == "labels" else "answers as the teacher does on"
        return (
            f"the student {does} {percent(found.accuracy)} of {found.size} validation images (interval "
            f"{percent_interval(found.interval)}), which is not better than chance, {percent(found.chance)}"
        )

    def _class_finding(self) -> str:
        names = ", ".join(repr(name) for name in self.unpredicted)
        return f"the student answers none of {self.against.size} validation images with {names}"


def find_standing(
    counts: Counts, class_names: tuple[str, ...], epochs_done: int, judged_by: JudgedBy = "labels"
) -> Standing:
    """Judge a student by counts (C, C) of validation images; rows are labels, or the teacher's answers in their place,
    and columns the student's answers.
    """
    places = np.arange(len(class_names))
    labels = np.repeat(places, counts.sum(axis=1))
    answers = np.concatenate([np.repeat(places, row) for row in counts])
    silent = (counts.sum(axis=0) == 0) & (counts.sum(axis=1) >= ENOUGH_OF_A_CLASS)
    return Standing(
        epochs_done=epochs_done,
        against=compare_with_chance(labels, answers),
        unpredicted=tuple(class_names[place] for place in np.flatnonzero(silent)),
        judged_by=judged_by,
    )


def _likely_causes(config: DistillConfig, image_count: int) -> str:
    steps = counted(math.ceil(image_count / config.batch_size), "step")
    images, epochs = counted(image_count, "image"), counted(config.epoch_count, "epoch")
    return (
        f"Likely causes, the likeliest first: too little training ({images}, {epochs} of {steps}: give more images, or "
        f"--epochs {3 * config.epoch_count}); the learning rate (now {config.peak_rate:g}: try --lr "
        f"{config.peak_rate / 3:.1g}); the student (one that starts from trained weights learns from fewer images: "
        "--student-weights; or try a smaller one: --student, --student-width)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of metrics.jsonl: losses are means over the epoch's images, weighted as in the objective.

    `validation_loss` is the divergence from the teacher's logits on validation images, T^2 KL, which decides between
    epochs of the same accuracy; None in records of earlier versions.
    """

    epoch: int
    loss: float
    loss_kd: float
    loss_task: float
    loss_layers: Mapping[str, float]
    validation_accuracy: float
    learning_rate: float
    seconds: float
    validation_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a run is; `phase` is subspaces, tuning, teacher-cache, training, validation or standing.

    `terms` are the epoch's mean losses so far (`kd`, `task`, `layer:NAME`); `last` is the last finished epoch.
    `standing` comes at most once a run, in the phase of that name: the student has learnt nothing, or never answers
    with some class, although a fair share of its epochs is over. `judged_by` says what validation is held against.
    `shares` are those of `training_shares` for the whole run, in every event of `distill`.
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
    judged_by: JudgedBy = "labels"
    shares: Mapping[str, float] = field(default_factory=dict)


SUBSPACES, TEACHER_CACHE, TUNING, TRAINING = "subspaces", "teacher-cache", "tuning", "training"
# Costs of an image in multiply-adds of a network's run, as a CPU takes them: finding subspaces goes forward and back,
# and so does a step of the student, which computes the layer terms and prepares the image as well. Seen with students
# of a tenth to two thirds of their teacher's multiply-adds, on photographs and on the demo's characters.
_SUBSPACE_RUNS = 3.0
_STEP_RUNS = 6.0
_STEP_IN_TEACHERS = 1.2
_VIEWS = 4
# Of the epochs of a whole run: seven values are tried for a quarter each, and most are stopped early.
_TUNING_EPOCHS = 1.0


def training_shares(config: DistillConfig, teacher_cost: float, student_cost: float) -> dict[str, float]:
    """Return how long each phase of a training takes beside the others, in order; roughly.

    Args:
        config: its settings, with the epochs of this start.
        teacher_cost, student_cost: multiply-adds of one image.
    """
    views = read_view_count(config.teacher_cache)
    views = min(_VIEWS if views is None else views, config.epoch_count)
    epoch = _STEP_RUNS * student_cost / max(teacher_cost, 1.0) + _STEP_IN_TEACHERS + (0.0 if views else 1.0)
    return {
        SUBSPACES: _SUBSPACE_RUNS if config.lambda_layer else 0.0,
        TEACHER_CACHE: float(views),
        TUNING: _TUNING_EPOCHS * config.epoch_count * epoch if config.lambda_layer == TUNED else 0.0,
        TRAINING: config.epoch_count * epoch,
    }


Watcher = Callable[[TrainingProgress], None]


def with_shares(watch: Watcher, shares: Mapping[str, float]) -> Watcher:
    """Return a watcher that passes every event on with these shares."""

    def passed(at: TrainingProgress) -> None:
        watch(replace(at, shares=shares))

    return passed


def ignore(_: object) -> None:
    """Watch nothing."""
