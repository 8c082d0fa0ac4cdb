"""What a student learns, a teacher's answers on the images of a subtask, and the settings that suit its start."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.models.start import knows_classes, started_from
from edgedistill.models.teacher import Teacher
from edgedistill.shrinking.shape import noted_shape
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Guide:
    """A teacher, and the subtask among its own classes."""

    teacher: Teacher
    subtask: Subtask

    @property
    def identity(self) -> list[object]:
        """What its answers depend on."""
        return [*_identify(self.teacher), list(self.subtask.class_indices)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The teacher, the subtask of its classes, and images whose labels are in the subtask's order.

    Attributes:
        beside: further teachers, whose answers are weighed against the teacher's image by image
            (`losses/several_teachers.py`). The layers are the teacher's alone.
        reference: the model that the student is to replace, where its teacher is another one, such as an assistant.
            Its answers stand in for labels that validation images lack, and its accuracy is the teacher's in records.
    """

    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages
    beside: tuple[Guide, ...] = ()
    reference: Guide | None = None

    @property
    def teacher_identity(self) -> list[str]:
        """What the teacher's answers depend on: its name, its weights, its preprocessing, and other pixel values."""
        return _identify(self.teacher)

    @property
    def judge(self) -> Guide:
        """What validation is held against beside labels: the reference, or the teacher where there is none."""
        return self.reference or Guide(teacher=self.teacher, subtask=self.subtask)

    @property
    def teachers(self) -> tuple[Teacher, ...]:
        """Every model that is asked, once."""
        return tuple({id(each): each for each in self._asked()}.values())

    def _asked(self) -> Iterator[Teacher]:
        yield self.teacher
        yield from (each.teacher for each in self.beside)
        yield self.judge.teacher


def check_beside(lesson: Lesson, config: DistillConfig) -> None:
    """Raise UsageError where the teachers beside the first one cannot help to teach this lesson."""
    if lesson.beside and not config.lambda_kd:
        raise UsageError(
            "Several teachers share the term of the logits, and lambda_kd = 0 leaves that out; give one --teacher, or "
            "lambda_kd above 0."
        )
    for each in lesson.beside:
        if each.subtask.class_names != lesson.subtask.class_names:
            raise UsageError(f"The teacher {each.teacher.name} was asked for other classes than {lesson.teacher.name}.")
        if each.teacher.preprocess.size != lesson.teacher.preprocess.size:
            (height, width), own = lesson.teacher.preprocess.size, each.teacher.preprocess.size
            raise UsageError(
                f"All teachers see the images as the first one does, at {height} x {width} pixels, and "
                f"{each.teacher.name} takes {own[0]} x {own[1]}; give --image-size, or one --teacher."
            )


def _identify(teacher: Teacher) -> list[str]:
    pixels = [teacher.pixels] if teacher.pixels else []
    return [teacher.name, teacher.weights_sha256, teacher.preprocess.digest, *pixels]


def for_student(config: DistillConfig, student: nn.Module) -> DistillConfig:
    """Return the settings with what is left to where the student starts."""
    return config.for_start(
        is_trained=bool(started_from(student)),
        knows_classes=knows_classes(student),
        is_shrunk=noted_shape(student) is not None,
    )
