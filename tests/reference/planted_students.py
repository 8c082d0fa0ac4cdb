"""A real small expert, distilled in seconds, with one channel that computes the same in float and that INT8 cannot
bear."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from edgedistill import (
    DistillConfig,
    ExportConfig,
    Subtask,
    SubtaskImages,
    Teacher,
    build_student,
    distill,
    export_onnx,
    load_teacher,
    open_source,
    split_for_subtask,
)
from edgedistill.distillation.lesson import Lesson
from edgedistill.models.student import write_student
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle

CLASSES = ("0", "1", "2", "3")
STUDENT = "plain:8-8-12-12"
SETTINGS = DistillConfig(epochs=14, batch_size=32, learning_rate=1e-2, augment="crop", compute="cpu", teacher_cache="2")
SOUND = "sound.safetensors"
# How much larger the channel is than the function needs, the layer that makes it and the one that reads it.
FACTOR, MAKER, FRAGILE = 200.0, "stages.1.bn2", "stages.2.conv1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedExpert:
    """A calibrated bundle of the student with the large channel, and everything that it was made from."""

    bundle: Bundle
    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages
    sound: dict[str, torch.Tensor]
    planted: dict[str, torch.Tensor]

    @property
    def lesson(self) -> Lesson:
        """What the student was taught."""
        return Lesson(teacher=self.teacher, subtask=self.subtask, images=self.images)

    def student(self, weights: dict[str, torch.Tensor] | None = None) -> nn.Module:
        """Return a fresh copy of the float student that is in the bundle, or one with other weights."""
        student = build_student(STUDENT, len(CLASSES))
        student.load_state_dict(weights or self.planted)
        return student.eval()


def make_planted(folder: Path, digits: Path) -> None:
    """Distil, plant the channel, export, and calibrate to the largest values with nothing left in float."""
    teacher = load_teacher("embedded:glyphs100")
    images = split_for_subtask(open_source(f"npz:{digits}"), CLASSES)
    subtask = teacher.subtask(CLASSES)
    student = build_student(STUDENT, len(CLASSES))
    result = distill(teacher, student, subtask, images, SETTINGS, folder=folder / "distill")
    write_student(student, folder / SOUND)
    with torch.no_grad():
        for parameter in student.get_submodule(MAKER).parameters():
            parameter[0] *= FACTOR
        student.get_parameter(f"{FRAGILE}.weight")[:, 0] /= FACTOR
    write_student(student, folder / "distill" / "student.safetensors")
    bundle = export_onnx(student, teacher, subtask, images.evaluation, folder, ExportConfig(opset=17))
    for role in ("student", "subspaces"):
        bundle = bundle.with_file(role, folder / "distill" / f"{role}.safetensors")
    pairs = [{"teacher": pair.teacher, "student": pair.student} for pair in result.pairs]
    bundle = bundle.with_fields(distillation={"lambda_layer": result.lambda_layer, "pairs": pairs})
    config = CalibrationConfig(images=100, method="minmax", profile="x86", fp16=False, ledger_nodes=0, max_drop=1.0)
    calibrate(bundle, images.train, config)


def open_planted(folder: Path, digits: Path) -> PlantedExpert:
    """Return what `make_planted` left in a folder, with what it was made from."""
    teacher = load_teacher("embedded:glyphs100")
    bundle = open_bundle(folder)
    return PlantedExpert(
        bundle=bundle,
        teacher=teacher,
        subtask=teacher.subtask(CLASSES),
        images=split_for_subtask(open_source(f"npz:{digits}"), CLASSES),
        sound=load_file(folder / SOUND),
        planted=load_file(bundle.file("student")),
    )
