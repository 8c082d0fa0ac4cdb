"""An assistant: a network between teacher and student that is trained under the teacher, and then teaches."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.config import DistillConfig
from edgedistill.distillation._task import fingerprint_of
from edgedistill.distillation.events import Watcher, ignore
from edgedistill.distillation.lesson import Guide, Lesson, for_student
from edgedistill.distillation.objective import Matching
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import read_student, write_student
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import ModelCost, count_cost
from edgedistill.networks.layers import LayerPair
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.files.writing import sha256_of_file, write_json

RECORD = "assistant.json"
WEIGHTS = "student.safetensors"
_TRAINING = ("validation_accuracy", "best_epoch", "epochs", "at_chance")
_NO_LAYERS = Matching(pairs=(), teacher_shapes={}, student_shapes={})

Pixels = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginner:
    """A network as it starts: `mean` and `std` are of the pixels that it takes, per channel, of images in [0, 1]."""

    network: nn.Module
    mean: Pixels
    std: Pixels


Begin = Callable[[], Beginner]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    """A trained assistant, as a guide of students of the same subtask, and what its training gave."""

    name: str
    guide: Guide
    cost: ModelCost
    training: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return its part of the manifest's record."""
        return {
            "name": self.name,
            **self.cost.to_json(),
            "weights_sha256": self.guide.teacher.weights_sha256,
            **self.training,
        }


def train_assistant(
    name: str, beginner: Beginner, lesson: Lesson, config: DistillConfig, folder: Path, progress: Watcher = ignore
) -> Assistant:
    """Train an assistant with SubDistill under the lesson's teachers, or read it if `folder` holds it already.

    A training that was stopped goes on from its checkpoint in `folder`. The settings are those of the student's own
    training.

    Raises:
        UsageError, EdgeDistillError: as `distill`.
    """
    key = _key(lesson, beginner.network, config)
    training = _read_training(folder, key)
    if training is None:
        result = teach(beginner.network, lesson, config, folder=folder, progress=progress)
        write_student(result.student, folder / WEIGHTS, folder)
        training = {
            "validation_accuracy": result.validation_accuracy,
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "at_chance": result.standing is not None and result.standing.stops_a_build,
        }
        write_json(folder / RECORD, {"kind": "assistant", "schema": 1, "key": key, **training}, inside=folder)
    network = read_student(beginner.network, folder / WEIGHTS).cpu().eval()
    guide = as_guide(name, beginner, lesson, sha256_of_file(folder / WEIGHTS))
    return Assistant(
        name=name, guide=guide, cost=count_cost(network, lesson.teacher.preprocess.size), training=training
    )


def as_guide(name: str, beginner: Beginner, lesson: Lesson, weights_sha256: str = "") -> Guide:
    """Return a trained network as a teacher of the lesson's subtask: its outputs are the classes, in their order."""
    subtask = lesson.subtask
    teacher = Teacher(
        name=f"assistant {name}",
        model=beginner.network.eval(),
        class_names=subtask.class_names,
        preprocess=lesson.teacher.preprocess,
        mean=beginner.mean,
        std=beginner.std,
        weights_sha256=weights_sha256,
    )
    own = Subtask(name=subtask.name, class_indices=tuple(range(len(subtask))), class_names=subtask.class_names)
    return Guide(teacher=teacher, subtask=own)


def teach(
    network: nn.Module,
    lesson: Lesson,
    config: DistillConfig,
    *,
    assistant: Guide | None = None,
    pairs: Sequence[LayerPair] | None = None,
    folder: Path | None = None,
    progress: Watcher = ignore,
) -> DistillResult:
    """Train a network under the lesson's teachers, or under an assistant of them in their place.

    `pairs` are of layers of the teacher; an assistant's layers are paired automatically.
    """
    if assistant is None:
        return distill(
            lesson.teacher,
            network,
            lesson.subtask,
            lesson.images,
            config,
            pairs=pairs,
            folder=folder,
            beside=lesson.beside,
            progress=progress,
        )
    return distill(
        assistant.teacher,
        network,
        assistant.subtask,
        lesson.images,
        config,
        folder=folder,
        reference=lesson.judge,
        progress=progress,
    )


def _key(lesson: Lesson, network: nn.Module, config: DistillConfig) -> str:
    return fingerprint_of(lesson, network, for_student(config, network), _NO_LAYERS)


def _read_training(folder: Path, key: str) -> dict[str, Any] | None:
    """Return what the training in the folder gave; None where there is no finished one of this key."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        made_for_this = record.pop("key") == key and (folder / WEIGHTS).is_file()
        return {name: record[name] for name in _TRAINING} if made_for_this else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
