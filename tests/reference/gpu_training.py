"""The small training that a CUDA GPU and the CPU must agree on."""

from collections.abc import Callable
from typing import TypeAlias

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.events import Watcher, ignore
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher

CLASSES = tuple("0123")
# Trains on the named device, with a watcher or without, by settings of `DistillConfig`.
Train: TypeAlias = Callable[..., DistillResult]


def trainer(teacher: Teacher, images: SubtaskImages) -> Train:
    """Return what trains a small student of four classes; the number formats are those of a CPU unless given."""

    def train(compute: str, progress: Watcher = ignore, **settings: object) -> DistillResult:
        plain = {"mixed_precision": "no", "channels_last": False, "augment": "none", "compute": compute}
        config = DistillConfig(**{**plain, **settings})  # type: ignore[arg-type]
        student = build_student("plain:8-8", len(CLASSES))
        return distill(teacher, student, teacher.subtask(CLASSES), images, config, progress=progress)

    return train
