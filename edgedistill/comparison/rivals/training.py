"""Training a rival of a run's expert: the same start, images, settings and seed, and another thing to learn from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.comparison.methods import METHODS
from edgedistill.comparison.testing import measure_answers
from edgedistill.config import DistillConfig
from edgedistill.distillation.events import Watcher, ignore
from edgedistill.distillation.lesson import Lesson
from edgedistill.distillation.subdistill import distill
from edgedistill.distillation.training import true_classes


def train_rival(
    name: str, student: nn.Module, lesson: Lesson, config: DistillConfig, folder: Path, progress: Watcher = ignore
) -> dict[str, Any]:
    """Train a student, as it starts, by the method `name`, and test it as the expert is.

    `config` are the expert's settings; the method's replace them. `folder` gets a checkpoint, from which a second call
    goes on.
    """
    own = replace(config, **METHODS[name], tensorboard=False)
    result = distill(
        lesson.teacher,
        student,
        lesson.subtask,
        lesson.images,
        own,
        folder=folder,
        beside=lesson.beside if own.lambda_kd else (),
        progress=progress,
    )
    tested = lesson.images.evaluation
    truth = true_classes(lesson.teacher, lesson.subtask, tested)
    return {
        "name": name,
        "training": {
            "best_epoch": result.best_epoch,
            "epochs": len(result.history),
            "validation_accuracy": result.validation_accuracy,
        },
        **measure_answers(result.student, lesson.teacher, tested, truth),
    }
