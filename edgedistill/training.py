"""The training loop: epochs, steps, validation, and the state that survives a kill."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgedistill.checkpoint import write_checkpoint
from edgedistill.config import DistillConfig
from edgedistill.data.loader import open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.layers import as_map, capture
from edgedistill.modes import evaluating
from edgedistill.objective import Objective
from edgedistill.teacher import Teacher
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files import write_text

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


ProgressCallback = Callable[[TrainingProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same during a run of training."""

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
class Outcome:
    """What changes from epoch to epoch."""

    teacher_accuracy: float
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_weights: Mapping[str, Tensor]


def ignore(_: TrainingProgress) -> None:
    """Report to nobody."""


def train(run: Run, objective: Objective, saved: Mapping[str, Any] | None) -> Outcome:
    """Train from the start, or from a checkpoint's state; leave the best epoch's weights in the student."""
    config = run.config
    optimizer = torch.optim.AdamW(_parameter_groups(objective, config.weight_decay), lr=config.learning_rate)
    if saved is None:
        accuracy = _accuracy(run, lambda pixels: run.teacher.model(pixels)[:, run.class_indices], epoch=0)
        outcome = Outcome(teacher_accuracy=accuracy, best_weights=_copied(objective.student))
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
    run: Run,
    wrapped: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    outcome: Outcome,
) -> Outcome:
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
        loss_layers={
            name.removeprefix("layer:"): each for name, each in means.items() if name.startswith("layer:")
        },
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
    run: Run,
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
    return (
        config.learning_rate
        * 0.5
        * (1 + math.cos(math.pi * (done - WARMUP_FRACTION) / (1 - WARMUP_FRACTION)))
    )


def _accuracy(run: Run, model: Callable[[Tensor], Tensor], epoch: int) -> float:
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


def _save(run: Run, objective: Objective, optimizer: torch.optim.Optimizer, outcome: Outcome) -> None:
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


def _outcome_from(saved: Mapping[str, Any]) -> Outcome:
    return Outcome(
        teacher_accuracy=saved["teacher_accuracy"],
        history=tuple(EpochRecord(**record) for record in saved["history"]),
        best_epoch=saved["best_epoch"],
        best_accuracy=saved["best_accuracy"],
        best_weights=saved["best_weights"],
    )
