"""Trainings that one process and several must agree on; every process takes its part in all of them.

`main` trains in FOLDER/NAME and leaves what the process of rank R ended with in FOLDER/NAME.R.json.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgedistill.compute.processes import disband, process_count
from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.distillation.tuning import LambdaChoice, choose_lambda
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from reference.lambda_curves import curve_run, peaked
from reference.small_networks import small_teacher

CLASSES = ("0", "1")
TRAIN_COUNT = 32
# An odd number, so that one process has an image more to judge.
VALIDATION_COUNT = 29
COMMON: Mapping[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "augment": "crop", "compute": "cpu"}
# Whether the student normalises over the batch, and settings.
CASES: Mapping[str, tuple[bool, Mapping[str, Any]]] = {
    "group-norm": (False, {}),
    "group-norm-cached": (False, {"teacher_cache": "1", "ema": 0.5}),
    "group-norm-learned": (False, {"alignment": "learned", "student_normalisation": "standardize"}),
    # 32 images are two batches of 12 and one of 8.
    "group-norm-partial": (False, {"batch_size": 12}),
    # Nothing teaches the head.
    "group-norm-layers-alone": (False, {"lambda_kd": 0.0}),
    "batch-norm": (True, {"batch_size": 16}),
    "batch-norm-cached": (True, {"batch_size": 16, "teacher_cache": "1", "ema": 0.5}),
}


def student_for(batch_norm: bool) -> nn.Module:
    """Build the student; without batch norm it has group norm instead, which looks at one image at a time."""
    student = build_student("plain:8-8", len(CLASSES))
    for name, module in list(student.named_modules()):
        if isinstance(module, nn.BatchNorm2d) and not batch_norm:
            parent, _, last = name.rpartition(".")
            setattr(student.get_submodule(parent), last, nn.GroupNorm(2, module.num_features))
    return student


def few_images(source: str) -> SubtaskImages:
    """Take the first training and validation images."""
    whole = split_for_subtask(open_source(source), CLASSES)
    return SubtaskImages(
        train=whole.train.select(range(TRAIN_COUNT)),
        validation=whole.validation.select(range(VALIDATION_COUNT)),
        test=None,
    )


def train_case(name: str, teacher: Teacher, images: SubtaskImages, folder: Path) -> DistillResult:
    """Train one case in a folder of its own."""
    batch_norm, settings = CASES[name]
    config = DistillConfig(**{**COMMON, **settings})
    subtask = teacher.subtask(CLASSES)
    return distill(teacher, student_for(batch_norm), subtask, images, config, folder=folder / name)


@torch.no_grad()
def right_answers(student: nn.Module, teacher: Teacher, images: SubtaskImages) -> int:
    """Count by hand the validation images that the student names as they are labelled, one after the other."""
    judges = images.validation
    right = 0
    for index, label in enumerate(judges.labels.tolist()):
        pixels = torch.tensor(teacher.preprocess.apply(judges.read(index)))[None]
        right += int(student(teacher.normalise()(pixels)).argmax()) == label
    return right


def digest(student: nn.Module) -> str:
    """Return a hash of all weights and buffers."""
    summary = hashlib.sha256()
    for tensor in student.state_dict().values():
        summary.update(tensor.numpy().tobytes())
    return summary.hexdigest()


def tune(folder: Path, rank: int) -> LambdaChoice:
    """Tune over curves that each process sees differently, so that only an agreed decision lets all go the same way."""
    run = curve_run(peaked((0.1, 100.0)[rank]), [])
    return choose_lambda(run, DistillConfig(epochs=32), fingerprint="company", folder=folder)


def main(source: str, folder: Path) -> None:
    """Train every case, then tune."""
    torch.set_num_threads(1)
    teacher = small_teacher()
    images = few_images(source)
    records: dict[str, Mapping[str, Any]] = {}
    for name in CASES:
        result = train_case(name, teacher, images, folder)
        records[name] = {
            "processes": process_count(),
            "history": [asdict(epoch) for epoch in result.history],
            "student": digest(result.student),
            "right": right_answers(result.student, teacher, images),
        }
    rank = torch.distributed.get_rank() if process_count() > 1 else 0
    records["tuning"] = tune(folder / "tuning", rank).to_json()
    for name, record in records.items():
        (folder / f"{name}.{rank}.json").write_text(json.dumps(record), encoding="utf-8")
    disband()
