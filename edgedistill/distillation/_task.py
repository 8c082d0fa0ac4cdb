"""A training task: everything that a run needs besides a student, and the fingerprint of a task."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from edgedistill.config import DistillConfig
from edgedistill.data.keeping import ImageMemory
from edgedistill.data.splits import images_key
from edgedistill.distillation._checkpoint import read_checkpoint
from edgedistill.distillation.events import TrainingProgress, Watcher
from edgedistill.distillation.lesson import Lesson
from edgedistill.distillation.objective import Matching
from edgedistill.models.start import started_from
from edgedistill.subspaces.directions import Subspace
from edgedistill_deploy.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Everything that a training run needs besides a student; tuning makes several runs of one task.

    `epochs` belongs to the whole run; `config` may belong to a short run. `memory` keeps the images of all passes.
    """

    lesson: Lesson
    config: DistillConfig
    accelerator: Accelerator
    matching: Matching
    fingerprint: str
    epochs: int
    folder: Path | None
    cache: Path | None
    watch: Watcher
    memory: ImageMemory = field(default_factory=ImageMemory)

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Return the state of this run after its last finished epoch; None where it starts new."""
        if self.folder is None:
            return None
        return read_checkpoint(self.folder / "checkpoint" / "state.pt", self.fingerprint)

    def with_subspaces(self, subspaces: Mapping[str, Subspace]) -> "Task":
        """Return the task with subspaces for its layers."""
        return replace(self, matching=replace(self.matching, subspaces=subspaces))

    def reporter(self, phase: str, cache_bytes: int = 0) -> Progress:
        """Return a function that reports counts as the progress of a phase before the first epoch."""
        epochs = self.config.epoch_count

        def report(done: int, total: int, note: str = "") -> None:
            self.watch(
                TrainingProgress(phase=phase, epoch=0, epochs=epochs, step=done, steps=total, cache_bytes=cache_bytes)
            )

        return report

    def cache_key(self) -> dict[str, Any]:
        """Return everything that the teacher's answers depend on, besides the views."""
        subspaces = hashlib.sha256()
        for name, subspace in sorted(self.matching.subspaces.items()):
            subspaces.update(name.encode() + subspace.basis.numpy().tobytes() + subspace.mean.numpy().tobytes())
        shapes = self.matching.student_shapes
        return {
            "teacher": self.lesson.teacher_identity,
            "classes": list(self.lesson.subtask.class_indices),
            "images": images_key(self.lesson.images.train),
            "layer loss": self.config.layer_loss,
            "subspaces": subspaces.hexdigest(),
            "direction weights": self.config.direction_weights,
            "layers": [[pair.teacher, *shapes[pair.student]] for pair in self.matching.pairs],
            **self._beside_key(),
        }

    def _beside_key(self) -> dict[str, Any]:
        """Return what the mixture of several teachers depends on; a single teacher's key stays as it was."""
        if not self.lesson.beside:
            return {}
        others = [each.identity for each in self.lesson.beside]
        return {"other teachers": others, "temperature": self.config.temperature}


def fingerprint_of(lesson: Lesson, student: nn.Module, config: DistillConfig, matching: Matching) -> str:
    """Identify everything that decides the result."""
    described = {
        "settings": config.deciding(),
        "pairs": [(pair.teacher, pair.student) for pair in matching.pairs],
        "student": [(name, tuple(tensor.shape)) for name, tensor in student.state_dict().items()],
        "teacher": lesson.teacher_identity,
        "images": [images_key(each) for each in (lesson.images.train, lesson.images.validation)],
        **({"start": start} if (start := started_from(student)) else {}),
        **({"members": lesson.subtask.members} if lesson.subtask.member_names else {}),
        **({"beside": [each.identity for each in lesson.beside]} if lesson.beside else {}),
        **({"reference": lesson.reference.identity} if lesson.reference else {}),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
