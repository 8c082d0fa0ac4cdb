"""What a student learns: a teacher's answers on the images of a subtask."""

from dataclasses import dataclass

from edgedistill.data.splits import SubtaskImages
from edgedistill.models.teacher import Teacher
from edgedistill.subtasks.subtask import Subtask


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The teacher, the subtask of its classes, and images whose labels are in the subtask's order."""

    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages

    @property
    def teacher_identity(self) -> list[str]:
        """What the teacher's answers depend on: its name, its weights, its preprocessing, and other pixel values."""
        teacher = self.teacher
        pixels = [teacher.pixels] if teacher.pixels else []
        return [teacher.name, teacher.weights_sha256, teacher.preprocess.digest, *pixels]
