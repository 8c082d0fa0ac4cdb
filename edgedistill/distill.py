"""The training loop: a student learns to agree with its teacher on a subtask."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgedistill.checkpoint import read_checkpoint, write_checkpoint
from edgedistill.config import DistillConfig
from edgedistill.data.loader import open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.layers import LayerPair, as_map, capture, map_shapes, pair_layers
from edgedistill.modes import evaluating
from edgedistill.objective import Objective
from edgedistill.subspace import Subspace, find_subspaces, load_subspaces, save_subspaces
from edgedistill.subtask import Subtask
from edgedistill.teacher import Teacher
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files import write_text
from edgedistill_deploy.images import ImageSet

EVALUATION_BATCH = 256
WARMUP_FRACTION = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One line of metrics.jsonl: losses are means over the epoch's images, weighted as in the objective."""

    epoch: int
    loss: float
    loss_kd: float
    loss_task: float
    loss_layers: Mapping[str, float]
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a run is.

    `phase` is subspaces, training or validation; `terms` are the epoch's mean losses so far (`kd`, `task`,
    `layer:NAME`); `last` is the last finished epoch.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    terms: Mapping[str, float] = field(default_factory=dict)
    last: EpochRecord | None = None


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


ProgressCallback = Callable[[TrainingProgress], None]


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
    subspaces = _subspaces(teacher, student, subtask, images.train, pairs, config, accelerator, folder, saved, progress)
    widths = {name: shape[0] for name, shape in map_shapes(student, [p.student for p in pairs], size).items()}
    objective = Objective(student, pairs, subspaces, widths, config).to(accelerator.device)
    run = _Run(
        accelerator=accelerator,
        teacher=teacher,
        class_indices=list(subtask.class_indices),
        normalise=normalise,
        images=images,
        config=config,
        fingerprint=fingerprint,
        folder=folder,
        progress=progress or _ignore,
    )
    with evaluating(model):
        state = _train(run, objective, saved)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What stays the same during a run."""

    accelerator: Accelerator
    teacher: Teacher
    class_indices: list[int]
    normalise: nn.Module
    images: SubtaskImages
    config: DistillConfig
    fingerprint: str
    folder: Path | None
    progress: ProgressCallback


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What changes from epoch to epoch."""

    teacher_accuracy: float
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_weights: Mapping[str, Tensor]


def _ignore(_: TrainingProgress) -> None:
    """Report to nobody."""


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
                    TrainingProgress(phase="subspaces", epoch=0, epochs=config.epochs, step=step + 1, steps=steps)
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


def _train(run: _Run, objective: Objective, saved: Mapping[str, Any] | None) -> _Outcome:
    config = run.config
    optimizer = torch.optim.AdamW(_parameter_groups(objective, config.weight_decay), lr=config.learning_rate)
    if saved is None:
        accuracy = _accuracy(run, lambda pixels: run.teacher.model(pixels)[:, run.class_indices], epoch=0)
        outcome = _Outcome(teacher_accuracy=accuracy, best_weights=_copied(objective.student))
    else:
        objective.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
        outcome = _outcome_from(saved)
    wrapped, optimizer = run.accelerator.prepare(objective, optimizer)
    for epoch in range(len(outcome.history), config.epochs):
        outcome = _train_epoch(run, wrapped, objective, optimizer, epoch, outcome)
        if run.accelerator.is_main_process:
            _save(run, objective, optimizer, outcome)
    objective.student.load_state_dict(outcome.best_weights)
    return outcome


def _parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Decay the student's matrices and kernels alone: not its biases and norms, not the rotations."""
    decayed = [each for each in objective.student.parameters() if each.ndim > 1]
    plain = [each for each in objective.student.parameters() if each.ndim <= 1]
    plain.extend(objective.layer_losses.parameters())
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _train_epoch(
    run: _Run,
    wrapped: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    outcome: _Outcome,
) -> _Outcome:
    started = time.monotonic()
    config = run.config
    loader = run.accelerator.prepare(
        open_loader(
            run.images.train,
            run.teacher.preprocess,
            config.batch_size,
            augment=config.augment,
            seed=config.seed,
            epoch=epoch,
            workers=config.workers,
        )
    )
    steps = len(loader)
    sums: dict[str, float] = {}
    count = 0
    rate = config.learning_rate
    last = outcome.history[-1] if outcome.history else None
    wrapped.train()
    # Dropout and stochastic depth draw from torch's generator; seeding it anew each epoch makes a resumed run draw the same.
    with torch.random.fork_rng():
        torch.manual_seed(config.seed * 100_003 + epoch)
        for step, (pixels, labels) in enumerate(loader):
            rate = learning_rate_at(epoch * steps + step, config.epochs * steps, config)
            terms = _step(run, wrapped, objective, optimizer, pixels, labels, rate)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value * len(labels)
            count += len(labels)
            run.progress(
                TrainingProgress(
                    phase="training",
                    epoch=epoch,
                    epochs=config.epochs,
                    step=step + 1,
                    steps=steps,
                    terms={name: value / count for name, value in sums.items()},
                    last=last,
                )
            )
    accuracy = _accuracy(run, objective.student, epoch=epoch)
    means = {name: value / count for name, value in sums.items()}
    record = EpochRecord(
        epoch=epoch,
        loss=sum(means.values()),
        loss_kd=means.get("kd", 0.0),
        loss_task=means.get("task", 0.0),
        loss_layers={name.removeprefix("layer:"): each for name, each in means.items() if name.startswith("layer:")},
        validation_accuracy=accuracy,
        learning_rate=rate,
        seconds=time.monotonic() - started,
    )
    outcome = replace(outcome, history=(*outcome.history, record))
    if accuracy > outcome.best_accuracy:
        return replace(
            outcome, best_epoch=epoch, best_accuracy=accuracy, best_weights=_copied(objective.student)
        )
    return outcome


def _step(
    run: _Run,
    wrapped: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    pixels: Tensor,
    labels: Tensor,
    rate: float,
) -> dict[str, float]:
    """Take one optimiser step; return the weighted terms as numbers."""
    teacher = run.teacher.model
    images = run.normalise(pixels)
    with torch.no_grad(), capture(teacher, objective.teacher_layers) as outputs:
        logits = teacher(images)[:, run.class_indices]
    maps = {name: as_map(outputs[name], teacher, name) for name in objective.teacher_layers}
    terms = wrapped(images, labels, logits, maps)
    values = {name: float(value.detach()) for name, value in terms.items()}
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise EdgeDistillError(
            f"Training stopped: the term {wrong[0]!r} of the loss is no longer a finite number. Lower learning_rate"
            f" (now {run.config.learning_rate}) or the term's weight, or set gradient_clip."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    run.accelerator.backward(torch.stack(list(terms.values())).sum())
    if run.config.gradient_clip > 0:
        run.accelerator.clip_grad_norm_(wrapped.parameters(), run.config.gradient_clip)
    optimizer.step()
    return values


def learning_rate_at(step: int, steps: int, config: DistillConfig) -> float:
    """Return the learning rate of one step out of `steps` of the whole run."""
    done = step / steps
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "step":
        return config.learning_rate * 0.5 ** math.floor(4 * done)
    if done < WARMUP_FRACTION:
        return config.learning_rate * (step + 1) / math.ceil(WARMUP_FRACTION * steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - WARMUP_FRACTION) / (1 - WARMUP_FRACTION)))


def _accuracy(run: _Run, model: Callable[[Tensor], Tensor], epoch: int) -> float:
    """Return the share of validation images that `model` (images -> subtask logits) names as they are labelled."""
    images = run.images.validation
    loader = run.accelerator.prepare(
        open_loader(images, run.teacher.preprocess, EVALUATION_BATCH, workers=run.config.workers)
    )
    steps = len(loader)
    right = 0
    mode = evaluating(model) if isinstance(model, nn.Module) else evaluating(run.teacher.model)
    with mode, torch.no_grad():
        for step, (pixels, labels) in enumerate(loader):
            matches = model(run.normalise(pixels)).argmax(dim=1) == labels
            right += int(run.accelerator.gather_for_metrics(matches).sum())
            run.progress(
                TrainingProgress(
                    phase="validation", epoch=epoch, epochs=run.config.epochs, step=step + 1, steps=steps
                )
            )
    return right / len(images)


def _copied(student: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in student.state_dict().items()}


def _save(run: _Run, objective: Objective, optimizer: torch.optim.Optimizer, outcome: _Outcome) -> None:
    if run.folder is None:
        return
    lines = [json.dumps(asdict(record)) for record in outcome.history]
    write_text(run.folder / "metrics.jsonl", "\n".join(lines) + "\n")
    state = {
        "fingerprint": run.fingerprint,
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "teacher_accuracy": outcome.teacher_accuracy,
        "history": [asdict(record) for record in outcome.history],
        "best_epoch": outcome.best_epoch,
        "best_accuracy": outcome.best_accuracy,
        "best_weights": dict(outcome.best_weights),
    }
    write_checkpoint(run.folder / "checkpoint" / "state.pt", state)


def _outcome_from(saved: Mapping[str, Any]) -> _Outcome:
    return _Outcome(
        teacher_accuracy=saved["teacher_accuracy"],
        history=tuple(EpochRecord(**record) for record in saved["history"]),
        best_epoch=saved["best_epoch"],
        best_accuracy=saved["best_accuracy"],
        best_weights=saved["best_weights"],
    )
