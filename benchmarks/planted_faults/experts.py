"""Two small experts that were really trained: eight coloured signs, and ten grey digits, both right nine times in ten.

An expert that is never wrong hides what a check does with ordinary errors. So the images are noisy, and some classes
look alike.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from edgedistill import build_student, export_onnx, open_source
from edgedistill.export.config import ExportConfig
from edgedistill.models.normalise import Normalise
from edgedistill.models.teacher import Teacher
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSplits

Pixels = NDArray[np.uint8]
Classes = NDArray[np.int64]

SIDE = 24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CALIBRATION = CalibrationConfig(images=160, held_out=160, method="minmax", ledger_nodes=0, max_drop=1.0)
TEACHER, STUDENT = "plain:12-16-16", "plain:12-16-24"
_EPOCHS, _BATCH = 7, 64
_TRAIN, _TEST = 2400, 2000

# Signs without a symmetry: a mirrored or turned one is none of the four.
_SIGNS = {
    "flag": ("1110", "1110", "1000", "1000"),
    "hook": ("0100", "0100", "0100", "1100"),
    "stair": ("1000", "1100", "0110", "0011"),
    "key": ("1100", "1111", "1100", "0001"),
}
_INKS = {"orange": (0.85, 0.45, 0.15), "green": (0.35, 0.65, 0.25)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Images of one task, with the names of their classes; `images` has the splits train and test."""

    name: str
    class_names: tuple[str, ...]
    images: ImageSplits


def colour_task(folder: Path) -> Task:
    """Return eight classes: four signs in two inks, at any place, with noise over ink and paper."""
    names = tuple(f"{ink} {sign}" for ink in _INKS for sign in _SIGNS)
    random = np.random.default_rng(0)
    labels = np.arange(_TRAIN + _TEST) % len(names)
    images = np.stack([_draw_sign(names[label], random) for label in labels])
    return _write_task("colour", names, images, labels, folder)


def grey_task(folder: Path) -> Task:
    """Return the ten embedded digits, moved a little and with noise, in grey."""
    source = open_source("embedded:digits")
    random = np.random.default_rng(1)
    kept = [row for row in range(len(source.train)) if source.train.class_names[source.train.labels[row]].isdigit()]
    rows = random.choice(kept, _TRAIN + _TEST, replace=len(kept) < _TRAIN + _TEST)
    names = tuple("0123456789")
    labels = np.array([names.index(source.train.class_names[source.train.labels[row]]) for row in rows])
    images = np.stack([_draw_digit(np.asarray(source.train.read(int(row)).convert("L")), random) for row in rows])
    return _write_task("grey", names, images, labels, folder)


def train_network(name: str, task: Task, seed: int, teacher: Teacher | None = None) -> nn.Module:
    """Return a network of `build_student`'s names, trained on the labels, and on the teacher's answers if there is
    one."""
    torch.manual_seed(seed)
    network = build_student(name, len(task.class_names), seed=seed)
    normalise = Normalise(MEAN, STD)
    images, labels = _tensors(task)
    wanted = _answers(teacher, normalise(images)) if teacher else None
    steps = _EPOCHS * (len(labels) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    network.train()
    for _ in range(steps):
        rows = torch.randint(len(labels), (_BATCH,))
        answers = network(normalise(images[rows]))
        loss = F.cross_entropy(answers, labels[rows])
        if wanted is not None:
            loss = loss + 0.1 * F.mse_loss(answers, wanted[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def train_teacher(task: Task) -> Teacher:
    """Return a teacher of the task's classes."""
    return Teacher(
        name=f"{task.name} teacher",
        model=train_network(TEACHER, task, seed=1),
        class_names=task.class_names,
        preprocess=Preprocess(size=(SIDE, SIDE)),
        mean=MEAN,
        std=STD,
    )


def export_expert(task: Task, teacher: Teacher, student: nn.Module, folder: Path, opset: int = 17) -> Bundle:
    """Return a bundle with the student's float file."""
    assert task.images.test is not None
    subtask = teacher.subtask(task.class_names)
    return export_onnx(student, teacher, subtask, task.images.test, folder, ExportConfig(opset=opset))


def make_bundle(task: Task, folder: Path) -> Bundle:
    """Train teacher and expert, export and calibrate."""
    teacher = train_teacher(task)
    bundle = export_expert(task, teacher, train_network(STUDENT, task, seed=2, teacher=teacher), folder)
    return calibrate(bundle, task.images.train, CALIBRATION)


def _write_task(name: str, names: tuple[str, ...], images: Pixels, labels: Classes, folder: Path) -> Task:
    path = folder / f"{name}.npz"
    split = np.where(np.arange(len(labels)) < _TRAIN, 0, 2)
    np.savez(path, images=images, labels=labels, class_names=np.array(names), split=split)
    return Task(name=name, class_names=names, images=open_source(f"npz:{path}"))


def _draw_sign(name: str, random: np.random.Generator) -> Pixels:
    ink, sign = name.split()
    shape = np.array([[int(cell) for cell in row] for row in _SIGNS[sign]], dtype=np.float64).repeat(4, 0).repeat(4, 1)
    row, column = random.integers(0, SIDE - 15, 2)
    mask = np.zeros((SIDE, SIDE, 1))
    mask[row : row + 16, column : column + 16, 0] = shape
    tint = np.array(_INKS[ink]) + random.normal(0, 0.12, 3)
    paper = random.uniform(0.3, 0.6) + random.normal(0, 0.05, 3)
    pixels = mask * tint + (1 - mask) * paper + random.normal(0, 0.24, (SIDE, SIDE, 3))
    return _as_pixels(pixels)


def _draw_digit(image: Pixels, random: np.random.Generator) -> Pixels:
    padded = np.pad(image, SIDE)
    top, left = ((side - SIDE) // 2 + int(random.integers(-2, 3)) for side in padded.shape)
    ink = padded[top : top + SIDE, left : left + SIDE] / 255
    return _as_pixels(random.uniform(0.35, 0.8) * ink + 0.1 + random.normal(0, 0.09, (SIDE, SIDE)))


def _as_pixels(values: NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(255 * values), 0, 255).astype(np.uint8)


def _tensors(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    train = task.images.train
    images = np.stack([np.asarray(train.read(row)) for row in range(len(train))])
    return torch.from_numpy(images), torch.tensor(train.labels.tolist())


def _answers(teacher: Teacher, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([teacher.model(part) for part in torch.split(images, 256)])
