"""SubDistill: a student learns to agree with its teacher on a subtask."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgedistill.checkpoint import read_checkpoint
from edgedistill.config import DistillConfig
from edgedistill.data.loader import open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.layers import LayerPair, map_shapes, pair_layers
from edgedistill.modes import evaluating
from edgedistill.objective import Objective
from edgedistill.subspace import Subspace, find_subspaces, load_subspaces, save_subspaces
from edgedistill.subtask import Subtask
from edgedistill.teacher import Teacher
from edgedistill.training import EpochRecord, ProgressCallback, Run, TrainingProgress, ignore, train
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillResult:
    """A trained student, holding the weights of its best epoch on validation images."""

    student: nn.Module
    subtask: Subtask
    pairs: tuple[LayerPair, ...]
    subspaces: Mapping[str, Subspace]
    history: tuple[EpochRecord, ...]
    best_epoch: int
    validation_accuracy: float
    teacher_validation_accuracy: float


def distill(
    teacher: Teacher,
    student: nn.Module,
    subtask: Subtask,
    images: SubtaskImages,
    config: DistillConfig | None = None,
    *,
    pairs: Sequence[LayerPair] | None = None,
    folder: Path | None = None,
    progress: ProgressCallback | None = None,
) -> DistillResult:
    """Train `student` with SubDistill (Chormai et al. 2026; `docs/method.md`).

    Args:
        teacher: left as it was found.
        student: trained in place; ends with the weights of the best epoch on the validation images (the earlier one of two
            that are equal).
        subtask: the teacher's classes that are kept; `images` carry labels in its order.
        images: training images feed the subspaces and the training, validation images choose the epoch. Test images are
            not looked at.
        config: settings.
        pairs: layers to match; found automatically when not given.
        folder: where `subspaces.safetensors`, `metrics.jsonl` and the checkpoint go; a run that finds its own checkpoint
            there goes on after the last finished epoch and ends with the same weights as one that was never stopped.
        progress: called several times an epoch.

    Raises:
        EdgeDistillError: the loss is no longer finite (the message names the term), or the checkpoint is another run's.
    """
    config = config or DistillConfig()
    accelerator = _open_accelerator(config.compute)
    model = teacher.model.to(accelerator.device)
    student.to(accelerator.device)
    normalise = teacher.normalise().to(accelerator.device)
    size = teacher.preprocess.size
    pairs = tuple(pairs) if pairs is not None else pair_layers(model, student, size)
    fingerprint = _fingerprint(config, pairs, student, images, teacher)
    saved = read_checkpoint(folder / "checkpoint" / "state.pt", fingerprint) if folder else None
    subspaces = _subspaces(
        teacher, student, subtask, images.train, pairs, config, accelerator, folder, saved, progress
    )
    widths = {name: shape[0] for name, shape in map_shapes(student, [p.student for p in pairs], size).items()}
    objective = Objective(student, pairs, subspaces, widths, config).to(accelerator.device)
    run = Run(
        accelerator=accelerator,
        teacher=teacher,
        class_indices=list(subtask.class_indices),
        normalise=normalise,
        images=images,
        config=config,
        fingerprint=fingerprint,
        folder=folder,
        progress=progress or ignore,
    )
    with evaluating(model):
        state = train(run, objective, saved)
    return DistillResult(
        student=student.cpu().eval(),
        subtask=subtask,
        pairs=pairs,
        subspaces=subspaces,
        history=state.history,
        best_epoch=state.best_epoch,
        validation_accuracy=state.best_accuracy,
        teacher_validation_accuracy=state.teacher_accuracy,
    )


def _open_accelerator(compute: str) -> Accelerator:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if compute != "auto" and not available[compute]:
        present = ", ".join(name for name, there in available.items() if there)
        raise UsageError(f"compute = {compute!r} is not available on this machine; it has: {present}.")
    return Accelerator(cpu=compute == "cpu")


def _fingerprint(
    config: DistillConfig,
    pairs: Sequence[LayerPair],
    student: nn.Module,
    images: SubtaskImages,
    teacher: Teacher,
) -> str:
    """Identify everything that decides the result; `workers` and `compute` do not."""
    settings = asdict(replace(config, workers=0, compute="auto"))
    described = {
        "settings": settings,
        "pairs": [(pair.teacher, pair.student) for pair in pairs],
        "student": [(name, tuple(tensor.shape)) for name, tensor in student.state_dict().items()],
        "teacher": (teacher.name, teacher.weights_sha256, teacher.preprocess.digest),
        "images": [_content_key(each) for each in (images.train, images.validation)],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _content_key(images: ImageSet) -> str:
    digest = hashlib.sha256()
    for index, label in enumerate(images.labels.tolist()):
        digest.update(f"{images.digest(index)} {label}\n".encode())
    return digest.hexdigest()


def _subspaces(
    teacher: Teacher,
    student: nn.Module,
    subtask: Subtask,
    images: ImageSet,
    pairs: Sequence[LayerPair],
    config: DistillConfig,
    accelerator: Accelerator,
    folder: Path | None,
    saved: Mapping[str, Any] | None,
    progress: ProgressCallback | None,
) -> dict[str, Subspace]:
    """Find the subspaces of all teacher layers in one pass, or read those of the run that is resumed."""
    path = folder / "subspaces.safetensors" if folder else None
    if path is not None and saved is not None and path.is_file():
        return load_subspaces(path)
    size = teacher.preprocess.size
    student_shapes = map_shapes(student, [pair.student for pair in pairs], size)
    loader = open_loader(images, teacher.preprocess, config.batch_size, workers=config.workers)
    normalise = teacher.normalise().to(accelerator.device)
    steps = len(loader)

    def batches() -> Iterator[Tensor]:
        for step, (pixels, _) in enumerate(loader):
            yield normalise(pixels.to(accelerator.device))
            if progress is not None:
                progress(
                    TrainingProgress(
                        phase="subspaces", epoch=0, epochs=config.epochs, step=step + 1, steps=steps
                    )
                )

    subspaces = find_subspaces(
        teacher.model,
        subtask.class_indices,
        batches(),
        {pair.teacher: student_shapes[pair.student][0] for pair in pairs},
        map_sizes={pair.teacher: student_shapes[pair.student][1:] for pair in pairs},
        method=config.method,
        positions=config.positions or None,
        seed=config.seed,
    )
    if path is not None:
        save_subspaces(path, subspaces)
    return subspaces
