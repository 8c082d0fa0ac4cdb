"""What a student learns: a teacher's answers on the images of a subtask."""

from dataclasses import dataclass

from edgedistill.data.splits import SubtaskImages
from edgedistill.models.teacher import Teacher
from edgedistill.subtasks.subtask import Subtask


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The teacher, the classes of it that are kept, and their images, whose labels are in the subtask's order."""

    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages

    @property
    def teacher_identity(self) -> list[str]:
        """What tells one teacher's answers from another's: its name, its weights and how it sees an image."""
        return [self.teacher.name, self.teacher.weights_sha256, self.teacher.preprocess.digest]
