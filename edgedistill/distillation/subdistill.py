"""SubDistill: a student learns to agree with its teacher on a subtask."""

import contextlib
import copy
import functools
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import (
    broadcast_object_list,
)
from torch import Tensor, nn

from edgedistill.compute.accelerator import memory_format, on_device, open_accelerator
from edgedistill.config import CHOSEN, TUNED, DistillConfig, check_pairs
from edgedistill.data.loader import Augmentation, open_loader
from edgedistill.data.sampling import sample_images
from edgedistill.data.splits import SubtaskImages, images_key
from edgedistill.distillation._checkpoint import read_checkpoint
from edgedistill.distillation.objective import Objective, PairedShapes
from edgedistill.distillation.teacher_guidance import TeacherGuidance, with_cache
from edgedistill.distillation.training import (
    EVALUATION_BATCH,
    EpochRecord,
    Outcome,
    ProgressCallback,
    Run,
    TrainingProgress,
    averaged,
    ignore,
    train,
)
from edgedistill.distillation.tuning import LambdaChoice, choose_lambda
from edgedistill.inspection.choosing import CANDIDATES, IMAGES, choose_methods
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import LayerPair, capture, map_shapes
from edgedistill.networks.modes import evaluating
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.finding import (
    Subspace,
    gather_moments,
    load_subspaces,
    save_subspaces,
    subspace_from,
)
from edgedistill.subspaces.moments import Moments
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.images.sets import ImageSet


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
    lambda_layer: float
    lambda_choice: LambdaChoice | None = None


def distill(
    teacher: Teacher,
    student: nn.Module,
    subtask: Subtask,
    images: SubtaskImages,
    config: DistillConfig | None = None,
    *,
    pairs: Sequence[LayerPair] | None = None,
    subspaces: Mapping[str, Subspace] | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
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
        subspaces: by teacher layer, of an earlier run of the same teacher and images; found in a pass when not given.
        folder: where `subspaces.safetensors`, `metrics.jsonl` and the checkpoint go; a run that finds its own checkpoint
            there goes on after the last finished epoch and ends with the same weights as one that was never stopped.
        cache: where the teacher's answers are kept when `teacher_cache` is on; in `folder` unless given. Runs that differ in
            nothing the teacher's answers hang on may share it.
        progress: called several times an epoch.

    Raises:
        EdgeDistillError: the loss is no longer finite (the message names the term), or the checkpoint is another run's.
    """
    config = config or DistillConfig()
    accelerator = open_accelerator(config)
    with on_device(teacher.model, student, config, accelerator):
        task = _task(
            teacher, student, subtask, images, config, pairs, subspaces, accelerator, folder, cache, progress
        )
        choice = _tuned(task, student) if config.lambda_layer == TUNED else None
        if choice is not None:
            task = replace(task, config=replace(config, lambda_layer=choice.lambda_layer))
        state = _train(task, student, task.saved)
    if folder is not None and cache is None and accelerator.is_main_process:
        # Large, and of use to this run alone, which is done.
        shutil.rmtree(folder / "teacher-cache", ignore_errors=True)
    return DistillResult(
        student=student.cpu().eval(),
        subtask=subtask,
        pairs=task.pairs,
        subspaces=task.subspaces,
        history=state.history,
        best_epoch=state.best_epoch,
        validation_accuracy=state.best_accuracy,
        teacher_validation_accuracy=state.teacher_accuracy,
        lambda_layer=float(task.config.lambda_layer),
        lambda_choice=choice,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """Everything that a training run needs besides a student; tuning makes several runs of one task.

    `epochs` are those of the whole run; `config` may be a short run's.
    """

    teacher: Teacher
    subtask: Subtask
    images: SubtaskImages
    config: DistillConfig
    accelerator: Accelerator
    pairs: tuple[LayerPair, ...]
    shapes: PairedShapes
    subspaces: Mapping[str, Subspace]
    fingerprint: str
    epochs: int
    folder: Path | None
    cache: Path | None
    saved: Mapping[str, Any] | None
    progress: ProgressCallback


def _task(
    teacher: Teacher,
    student: nn.Module,
    subtask: Subtask,
    images: SubtaskImages,
    config: DistillConfig,
    pairs: Sequence[LayerPair] | None,
    subspaces: Mapping[str, Subspace] | None,
    accelerator: Accelerator,
    folder: Path | None,
    cache: Path | None,
    progress: ProgressCallback | None,
) -> _Task:
    size = teacher.preprocess.size
    chosen = tuple(pairs) if pairs is not None else pair_layers(teacher.model, student, size)
    check_pairs([(pair.teacher, pair.student) for pair in chosen])
    # Without a weight the layers cost time and change nothing, so they are not tapped at all.
    chosen = chosen if config.lambda_layer else ()
    shapes = PairedShapes(
        teacher=map_shapes(teacher.model, [pair.teacher for pair in chosen], size),
        student=map_shapes(student, [pair.student for pair in chosen], size),
    )
    fingerprint = _fingerprint(config, chosen, student, images, teacher)
    saved = read_checkpoint(folder / "checkpoint" / "state.pt", fingerprint) if folder else None
    task = _Task(
        teacher=teacher,
        subtask=subtask,
        images=images,
        config=config,
        accelerator=accelerator,
        pairs=chosen,
        shapes=shapes,
        subspaces={},
        fingerprint=fingerprint,
        epochs=config.epochs,
        folder=folder,
        cache=cache or (folder / "teacher-cache" if folder else None),
        saved=saved,
        progress=progress or ignore,
    )
    if config.layer_loss != "subspace":
        return task
    return replace(task, subspaces=_subspaces(task) if subspaces is None else subspaces)


def _tuned(task: _Task, student: nn.Module) -> LambdaChoice:
    """Choose lambda_layer by short runs of copies of the student."""

    def run(config: DistillConfig, progress: ProgressCallback) -> Outcome:
        return _train(
            replace(task, config=config, folder=None, progress=progress), copy.deepcopy(student), None
        )

    return choose_lambda(
        run, task.config, folder=task.folder, fingerprint=task.fingerprint, progress=task.progress
    )


def _train(task: _Task, student: nn.Module, saved: Mapping[str, Any] | None) -> Outcome:
    config = task.config
    device = task.accelerator.device
    average = averaged(student, config.ema)
    layers = [pair.student for pair in task.pairs]
    with capture(student, layers) as outputs, evaluating(task.teacher.model), _cache_folder(task) as cache:
        if config.compile_student:
            # The hooks of `capture` stand before compilation, which would not see later ones.
            student.compile()
        objective = Objective(student, task.pairs, task.shapes, task.subspaces, config, outputs).to(device)
        guidance = TeacherGuidance(
            teacher=task.teacher,
            class_indices=task.subtask.class_indices,
            layers=[pair.teacher for pair in task.pairs],
            objective=objective,
            normalise=task.teacher.normalise().to(device),
            accelerator=task.accelerator,
        )
        guidance, augmentation = with_cache(
            guidance,
            task.images.train,
            Augmentation(name=config.augment, seed=config.seed),
            config,
            folder=cache,
            key=_cache_key(task),
            epochs=task.epochs,
            views=saved["views"] if saved is not None else None,
            progress=functools.partial(_report_cache, task),
        )
        run = Run(
            accelerator=task.accelerator,
            guidance=guidance,
            images=task.images,
            augmentation=augmentation,
            config=config,
            fingerprint=task.fingerprint,
            folder=task.folder,
            progress=task.progress,
        )
        return train(run, objective, average, saved)


@contextlib.contextmanager
def _cache_folder(task: _Task) -> Iterator[Path]:
    """Yield where the teacher's answers go: the folder that was named, the run's, or one that is gone afterwards."""
    if task.config.teacher_cache == "off":
        yield Path()
        return
    if task.cache is not None:
        yield task.cache
        return
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as temporary:
        yield Path(temporary) / "teacher-cache"


def _cache_key(task: _Task) -> dict[str, Any]:
    """Describe all that the teacher's answers hang on, besides the views."""
    subspaces = hashlib.sha256()
    for name in sorted(task.subspaces):
        subspace = task.subspaces[name]
        subspaces.update(name.encode() + subspace.basis.numpy().tobytes() + subspace.mean.numpy().tobytes())
    return {
        "teacher": [task.teacher.name, task.teacher.weights_sha256, task.teacher.preprocess.digest],
        "classes": list(task.subtask.class_indices),
        "images": images_key(task.images.train),
        "layer loss": task.config.layer_loss,
        "subspaces": subspaces.hexdigest(),
        "direction weights": task.config.direction_weights,
        "layers": [[pair.teacher, *task.shapes.student[pair.student]] for pair in task.pairs],
    }


def _report_cache(task: _Task, done: int, total: int, size: int) -> None:
    task.progress(
        TrainingProgress(
            phase="teacher-cache",
            epoch=0,
            epochs=task.config.epochs,
            step=done,
            steps=total,
            cache_bytes=size,
        )
    )


def _reporting(task: _Task, phase: str) -> Callable[[int, int], None]:
    """Turn counts into progress of a phase before the first epoch."""

    def report(done: int, total: int) -> None:
        task.progress(
            TrainingProgress(phase=phase, epoch=0, epochs=task.config.epochs, step=done, steps=total)
        )

    return report


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
        "images": [images_key(each) for each in (images.train, images.validation)],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _subspaces(task: _Task) -> dict[str, Subspace]:
    """Find the subspaces of all teacher layers in one pass, or read those of the run that is resumed."""
    if not task.pairs:
        return {}
    path = task.folder / "subspaces.safetensors" if task.folder else None
    if path is not None and task.saved is not None and path.is_file():
        return load_subspaces(path)
    config, teacher = task.config, task.teacher
    shapes = {pair.teacher: task.shapes.student[pair.student] for pair in task.pairs}
    ranks = {name: shape[0] for name, shape in shapes.items()}
    moments = gather_moments(
        teacher.model,
        task.subtask.class_indices,
        _own_share(task),
        tuple(ranks),
        map_sizes={name: shape[1:] for name, shape in shapes.items()},
        positions=config.positions or None,
        seed=config.seed,
    )
    methods = _methods(task, moments, ranks)
    subspaces = {
        name: subspace_from(moments[name], rank, layer=name, method=methods[name], seed=config.seed)
        for name, rank in ranks.items()
    }
    if path is not None and task.accelerator.is_main_process:
        save_subspaces(path, subspaces)
    return subspaces


def _methods(task: _Task, moments: Mapping[str, Moments], ranks: Mapping[str, int]) -> dict[str, str]:
    """Return how each layer's subspace is found: as the settings say, or as the validation images do."""
    if task.config.method != CHOSEN:
        return dict.fromkeys(ranks, task.config.method)
    images = sample_images(task.images.validation, IMAGES, task.config.seed)
    report = _reporting(task, "subspaces")
    total = len(images) * len(ranks) * len(CANDIDATES)
    with evaluating(task.teacher.model):
        chosen = choose_methods(
            task.teacher.model,
            task.subtask.class_indices,
            functools.partial(_labelled, task, images),
            moments,
            ranks,
            lambda done: report(done, total),
        )
    # Rounding may differ from device to device, and all processes must compare in the same subspaces.
    return dict(broadcast_object_list([chosen])[0])


def _labelled(task: _Task, images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images (n, 3, H, W) and their labels (n,), on the device."""
    device = task.accelerator.device
    normalise = task.teacher.normalise().to(device)
    for pixels, labels, _ in open_loader(
        images, task.teacher.preprocess, EVALUATION_BATCH, workers=task.config.workers
    ):
        batch = normalise(pixels.to(device)).contiguous(memory_format=memory_format(task.config))
        yield batch, labels.to(device)


def _own_share(task: _Task) -> Iterator[Tensor]:
    """Yield this process's share of the training images, in batches of normalised images (n, 3, H, W)."""
    accelerator, images = task.accelerator, task.images.train
    # A plain division, because a sampler that evens the shares out would count some images twice.
    share = images.select(range(accelerator.process_index, len(images), accelerator.num_processes))
    loader = open_loader(share, task.teacher.preprocess, task.config.batch_size, workers=task.config.workers)
    normalise = task.teacher.normalise().to(accelerator.device)
    report = _reporting(task, "subspaces")
    for step, (pixels, _, _) in enumerate(loader):
        images_of_batch = normalise(pixels.to(accelerator.device))
        yield images_of_batch.contiguous(memory_format=memory_format(task.config))
        report(step + 1, len(loader))
