"""What the stages of a run share: teacher, subtask, images, the student that is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill_cli.runs.folder import Run
from edgedistill_deploy.progress import Progress, noted

if TYPE_CHECKING:
    from edgedistill.data.splits import SubtaskImages
    from edgedistill.distillation.events import TrainingProgress
    from edgedistill.models.student import Student
    from edgedistill.models.teacher import Teacher
    from edgedistill.subtasks.subtask import Subtask
    from edgedistill_deploy.images.sets import ImageSplits


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What training and export share: loaded once, and only when a stage needs it."""

    teacher: "Teacher"
    subtask: "Subtask"
    source: "ImageSplits"
    images: "SubtaskImages"


def load_inputs(run: Run) -> Inputs:
    """Load the teacher, find the subtask among its classes and the subtask's images in the data."""
    teacher_settings, subtask_settings = run.settings.teacher, run.settings.subtask
    from edgedistill.data.sources import open_source
    from edgedistill.data.splits import split_for_subtask
    from edgedistill.models.student import check_student_name
    from edgedistill.models.teacher import load_teacher
    from edgedistill.subtasks.subtask import named_subtask_classes

    # A misspelt student would otherwise be found only after the teacher is loaded and every image has been read once.
    if run.settings.student.name:
        check_student_name(run.settings.student.name)
    with run.console.progress("load") as report:
        teacher = load_teacher(
            teacher_settings.name,
            weights=Path(teacher_settings.weights) if teacher_settings.weights else None,
            classes=Path(teacher_settings.classes) if teacher_settings.classes else None,
            image_size=run.settings.data.image_size or None,
        )
        names = subtask_settings.classes or named_subtask_classes(subtask_settings.name)
        subtask = teacher.subtask(names, name=subtask_settings.name or "subtask")
        source = open_source(run.settings.data.source)
        images = split_for_subtask(
            source, subtask.class_names, seed=run.settings.distill.seed, progress=noted(report, "images")
        )
    test = len(images.test) if images.test is not None else 0
    run.console.say(
        f"{len(subtask)} classes; {len(images.train)} training, {len(images.validation)} validation, {test} test images"
    )
    for note in images.notes:
        run.console.say(f"note: {note}")
    return Inputs(teacher=teacher, subtask=subtask, source=source, images=images)


def build_run_student(run: Run, inputs: Inputs) -> "Student":
    """Build the untrained student of this run."""
    from edgedistill.models.student import build_student

    return build_student(
        run.settings.student.name,
        len(inputs.subtask),
        width=run.settings.student.width,
        image_size=inputs.teacher.preprocess.size,
        seed=run.settings.distill.seed,
    )


def show_training(report: Progress, at: "TrainingProgress") -> None:
    """Count the subspace pass as one more epoch, so that one bar and one remaining time cover the training."""
    if at.phase == "teacher-cache":
        report(at.step, at.steps, f"teacher's answers, {at.cache_bytes / 1e6:.1f} MB")
        return
    if at.phase == "tuning":
        report(at.epoch * at.steps + at.step, at.epochs * at.steps, "choosing lambda_layer")
        return
    passed = 0 if at.phase == "subspaces" else at.epoch + 1
    step = at.step if at.phase != "validation" else at.steps
    parts = ["subspaces"] if at.phase == "subspaces" else [f"epoch {at.epoch + 1}/{at.epochs}"]
    if at.terms:
        layers = sum(value for name, value in at.terms.items() if name.startswith("layer:"))
        parts.append(f"loss kd {at.terms.get('kd', 0.0):.3f} layers {layers:.3f}")
    if at.last is not None:
        parts.append(f"validation {at.last.validation_accuracy:.1%}")
    if at.phase != "validation":
        report(passed * at.steps + step, (at.epochs + 1) * at.steps, ", ".join(parts))
