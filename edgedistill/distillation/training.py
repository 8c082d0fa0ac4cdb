"""The training loop: epochs, steps, evaluation, and the state that survives a kill."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.compute.accelerator import memory_format, own_random_numbers
from edgedistill.compute.parts import answer_in_parts
from edgedistill.compute.processes import average_buffers
from edgedistill.config import FROZEN, DistillConfig
from edgedistill.data.feeding import Feed
from edgedistill.data.loader import Augmentation, open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import fill_in, judged_by, unlabelled_count
from edgedistill.distillation._checkpoint import write_checkpoint
from edgedistill.distillation._metrics import EpochLosses, metrics_writer
from edgedistill.distillation._schedules import layer_weight_at, learning_rate_at
from edgedistill.distillation.events import (
    Counts,
    EpochRecord,
    Standing,
    TrainingProgress,
    Watcher,
    fair_share,
    find_standing,
)
from edgedistill.distillation.objective import Objective
from edgedistill.distillation.teacher_guidance import Asked, TeacherGuidance
from edgedistill.losses.subspace_loss import distillation_loss
from edgedistill.models.normalise import normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.average import MovingAverage
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.networks.modes import evaluating, train_with
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet

EVALUATION_BATCH = 256
# The kinds of device for which the oldest supported torch has a fused AdamW.
FUSED_ADAMW = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeds:
    """This process's part of the images for every epoch: the training ones shuffled and varied, and the others."""

    training: Feed
    validation: Feed

    def close(self) -> None:
        """End the processes that decode."""
        self.training.close()
        self.validation.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same during a run of training.

    `judge` is the model whose answers validation is held against beside labels: the teacher, or the model that the
    student is to replace. `judge_logits` (N, C) are its answers to the validation images of this process; 0 for others.
    """

    accelerator: Accelerator
    guidance: TeacherGuidance
    judge: Asked
    normalise: nn.Module
    images: SubtaskImages
    augmentation: Augmentation
    config: DistillConfig
    fingerprint: str
    folder: Path | None
    watch: Watcher
    feeds: Feeds
    judge_logits: Tensor | None = None

    def prepare(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images (N, H, W, 3) into the student's input (N, 3, H, W)."""
        return self._laid_out(self.normalise(pixels))

    def prepare_for_teacher(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images (N, H, W, 3) into the teacher's input (N, 3, H, W)."""
        return self._laid_out(self.guidance.normalise(pixels))

    def _laid_out(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=memory_format(self.config))


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """What a step changes: the objective (`shared` by the processes), its optimiser and the average."""

    objective: Objective
    shared: nn.Module
    optimizer: torch.optim.Optimizer
    average: MovingAverage | None

    @property
    def judged(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.objective.student if self.average is None else self.average.module


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What changes from epoch to epoch.

    The best epoch has the highest accuracy on validation images; of epochs with the same, the lowest `best_loss`
    against the judge's answers there. `best_counts` (C, C) are its answers, see `find_standing`; None from a checkpoint
    of an earlier version. `doubted_after` is the number of epochs after which the user was told that little was learnt,
    or 0.
    """

    teacher_accuracy: float
    history: tuple[EpochRecord, ...] = ()
    best_epoch: int = 0
    best_accuracy: float = -1.0
    best_loss: float = math.inf
    best_weights: Mapping[str, Tensor]
    best_counts: Counts | None = None
    doubted_after: int = 0

    @property
    def validation_accuracy(self) -> float:
        """The validation accuracy of the best epoch."""
        return self.best_accuracy

    def standing(self, validation: ImageSet) -> Standing | None:
        """Compare the best epoch with chance."""
        if self.best_counts is None:
            return None
        return find_standing(self.best_counts, validation.class_names, len(self.history), judged_by(validation))


def train(run: Run, objective: Objective, average: MovingAverage | None, saved: Mapping[str, Any] | None) -> Outcome:
    """Train from the start, or from a checkpoint's state; leave the best epoch's weights in the student."""
    config = run.config
    known, counts = _ask_judge(run)
    run = replace(run, judge_logits=known)
    optimizer = torch.optim.AdamW(
        _parameter_groups(objective, config.weight_decay),
        lr=config.peak_rate,
        # One kernel for all parameters makes a small student's step a tenth shorter.
        fused=run.accelerator.device.type in FUSED_ADAMW,
    )
    if saved is None:
        outcome = Outcome(teacher_accuracy=_accuracy_of(counts), best_weights=_copy_weights(objective.student))
    else:
        objective.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
        if average is not None:
            average.load_state_dict(saved["average"])
        outcome = _outcome_from(saved)
    shared, optimizer = run.accelerator.prepare(objective, optimizer)
    if saved is not None and run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(saved["scaler"])
    learner = Learner(objective=objective, shared=shared, optimizer=optimizer, average=average)
    metrics_folder = run.folder if config.tensorboard and run.accelerator.is_main_process else None
    with metrics_writer(metrics_folder) as write_metrics:
        for epoch in range(len(outcome.history), config.epoch_count):
            if _is_stuck(outcome, config):
                break
            outcome = _note_doubt(run, _train_epoch(run, learner, epoch, outcome))
            if run.accelerator.is_main_process:
                write_metrics(outcome.history[-1])
                _save(run, learner, outcome)
            run.accelerator.wait_for_everyone()
    objective.student.load_state_dict(outcome.best_weights)
    return outcome


def _is_stuck(outcome: Outcome, config: DistillConfig) -> bool:
    """Tell whether the validation accuracy has not risen for as many epochs as early stopping allows."""
    if not config.early_stopping or not outcome.history:
        return False
    # Of epochs with the best accuracy the first counts: a falling loss alone could go on for ever.
    reached = next(each.epoch for each in outcome.history if each.validation_accuracy == outcome.best_accuracy)
    return len(outcome.history) - 1 - reached >= config.early_stopping


def _note_doubt(run: Run, outcome: Outcome) -> Outcome:
    """Tell once, after a fair share of the epochs, that the student has learnt nothing or never names a class."""
    done = len(outcome.history)
    if outcome.doubted_after or not fair_share(run.config.epoch_count) <= done < run.config.epoch_count:
        return outcome
    standing = outcome.standing(run.images.validation)
    if standing is None or not standing.is_doubtful:
        return outcome
    epochs = run.config.epoch_count
    run.watch(
        TrainingProgress(phase="standing", epoch=done - 1, epochs=epochs, step=done, steps=epochs, standing=standing)
    )
    return replace(outcome, doubted_after=done)


def _parameter_groups(objective: Objective, weight_decay: float) -> list[dict[str, Any]]:
    """Decay only the student's matrices and kernels: no biases, norms, rotations or regressors."""
    decayed = [each for each in objective.student.parameters() if each.ndim > 1]
    plain = [each for each in objective.student.parameters() if each.ndim <= 1]
    plain.extend(objective.layer_losses.parameters())
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _train_epoch(run: Run, learner: Learner, epoch: int, outcome: Outcome) -> Outcome:
    started = time.monotonic()
    means, rate = _run_steps(run, learner, epoch, outcome.history[-1] if outcome.history else None)
    for network in dict.fromkeys((learner.objective.student, learner.judged)):
        average_buffers(network)
    with evaluating(learner.judged):
        counts, loss = _judge_answers(run, lambda pixels: learner.judged(run.prepare(pixels)), epoch=epoch)
    accuracy = _accuracy_of(counts)
    record = EpochRecord(
        epoch=epoch,
        loss=sum(means.values()),
        loss_kd=means.get("kd", 0.0),
        loss_task=means.get("task", 0.0),
        loss_layers={name.removeprefix("layer:"): each for name, each in means.items() if name.startswith("layer:")},
        validation_accuracy=accuracy,
        validation_loss=loss,
        learning_rate=rate,
        seconds=time.monotonic() - started,
    )
    outcome = replace(outcome, history=(*outcome.history, record))
    if (accuracy, -loss) <= (outcome.best_accuracy, -outcome.best_loss):
        return outcome
    return replace(
        outcome,
        best_epoch=epoch,
        best_accuracy=accuracy,
        best_loss=loss,
        best_weights=_copy_weights(learner.judged),
        best_counts=counts,
    )


def _run_steps(run: Run, learner: Learner, epoch: int, last: EpochRecord | None) -> tuple[dict[str, float], float]:
    """Take an epoch's steps; return the terms' means over the images of all processes, and the last learning rate."""
    config = run.config
    steps = len(run.feeds.training)
    losses = EpochLosses(config)
    rate = config.peak_rate
    train_with(learner.shared, frozen_statistics=config.batch_norm == FROZEN)
    # Dropout and stochastic depth use torch's generator. A new seed each epoch lets a resumed run draw the same.
    with own_random_numbers(run.accelerator.device, config.seed * 100_003 + epoch):
        for step, batch in enumerate(run.feeds.training.batches(epoch)):
            rate = learning_rate_at(epoch * steps + step, config.epoch_count * steps, config)
            weight = layer_weight_at(epoch * steps + step, config.epoch_count * steps, config)
            _step(run, learner, batch, losses, epoch, rate, weight)
            run.watch(
                TrainingProgress(
                    phase="training",
                    epoch=epoch,
                    epochs=config.epoch_count,
                    step=step + 1,
                    steps=steps,
                    terms=losses.so_far(),
                    last=last,
                    judged_by=judged_by(run.images.validation),
                )
            )
    return losses.over(run.accelerator), rate


def _step(
    run: Run,
    learner: Learner,
    batch: tuple[Tensor, Tensor, Tensor],
    losses: EpochLosses,
    epoch: int,
    rate: float,
    layer_weight: float,
) -> None:
    """Take one optimiser step, and add its weighted terms to the losses.

    Nothing here may wait for the device, which is to find the next step's work when it is done with this one's.
    """
    pixels, labels, indices = batch
    labelled = int((labels != NO_LABEL).sum())
    if run.augmentation.mixup and (run.config.lambda_task or run.guidance.beside):
        train = run.images.train
        labels = run.augmentation.mix_labels(epoch, indices, train.labels, len(train.class_names))
    pixels, labels = (each.to(run.accelerator.device, non_blocking=True) for each in (pixels, labels))
    images = run.prepare(pixels)
    asked = images if run.normalise is run.guidance.normalise else run.prepare_for_teacher(pixels)
    guidance = run.guidance.of(asked, pixels, labels, run.augmentation.view_number(epoch), indices)
    terms = learner.shared(images, labels, guidance, layer_weight)
    total = losses.add(terms, len(indices), labelled)
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.optimizer.zero_grad()
    run.accelerator.backward(total)
    if run.config.gradient_clip > 0:
        run.accelerator.clip_grad_norm_(learner.shared.parameters(), run.config.gradient_clip)
    learner.optimizer.step()
    if learner.average is not None:
        learner.average.update_parameters(learner.objective.student)


def _judge_answers(run: Run, model: Callable[[Tensor], Tensor], epoch: int) -> tuple[Counts, float]:
    """Count the validation images by label and by the answer of `model` (uint8 images -> subtask logits): (C, C).

    The judge's answers stand in for labels that there are not. Also return the mean divergence of the logits from the
    judge's, as the logit term measures it.
    """
    classes = len(run.images.validation.class_names)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=run.accelerator.device)
    total = torch.zeros((), device=run.accelerator.device)
    assert run.judge_logits is not None, "train asks the judge first"
    for logits, labels, indices in _ask_validation(run, model, epoch):
        theirs = run.judge_logits[indices]
        counts += _count(logits, labels, theirs)
        total += distillation_loss(logits, theirs, run.config.temperature) * len(indices)
    lost: Tensor = run.accelerator.reduce(total, reduction="sum")
    return _sum_counts(run, counts), float(lost) / len(run.images.validation)


def _count(logits: Tensor, labels: Tensor, of_judge: Tensor) -> Tensor:
    """Count images by label, or by the judge's answer where there is none, and by the answer in `logits`: (C, C)."""
    classes = logits.shape[1]
    truth = torch.where(labels == NO_LABEL, of_judge.argmax(dim=1), labels)
    return torch.bincount(truth * classes + logits.argmax(dim=1), minlength=classes**2).view(classes, classes)


def _sum_counts(run: Run, counts: Tensor) -> Counts:
    """Return the counts (C, C) of all processes."""
    summed: Tensor = run.accelerator.reduce(counts, reduction="sum")
    return np.asarray(summed.cpu().numpy(), dtype=np.int64)


def _ask_judge(run: Run) -> tuple[Tensor, Counts]:
    """Return the judge's logits (N, C) for the validation images, those of other processes' images left at 0.

    Also count the images of all processes by label and by the judge's answer (C, C); without labels it is always right.
    """
    images, device = run.images.validation, run.accelerator.device
    classes = len(images.class_names)
    found = torch.zeros(len(images), classes, device=device)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    for logits, labels, indices in _ask_validation(run, run.judge.logits, epoch=0):
        found[indices] = logits
        counts += _count(logits, labels, logits)
    return found, _sum_counts(run, counts)


@torch.no_grad()
def _ask_validation(run: Run, model: Callable[[Tensor], Tensor], epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield logits (n, C), labels (n,) and positions (n,) of this process's validation images, batch by batch."""
    device, steps = run.accelerator.device, len(run.feeds.validation)
    for step, (pixels, labels, indices) in enumerate(run.feeds.validation.batches()):
        with run.accelerator.autocast():
            logits = answer_in_parts(model, pixels)
        yield logits.float(), labels.to(device, non_blocking=True), indices.to(device, non_blocking=True)
        run.watch(
            TrainingProgress(phase="validation", epoch=epoch, epochs=run.config.epoch_count, step=step + 1, steps=steps)
        )


def _accuracy_of(counts: Counts) -> float:
    return int(np.trace(counts)) / int(counts.sum())


def predict_classes(
    model: nn.Module, teacher: Teacher, images: ImageSet, classes: ClassIndices | None = None
) -> NDArray[np.int64]:
    """Return the position, among `classes` (as for `restrict_logits`) or all outputs, of the largest logit (N,)."""
    device = next(model.parameters()).device
    normalise = normalise_of(model, teacher.normalise()).to(device)
    found: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        for pixels, *_ in open_loader(images, teacher.preprocess, EVALUATION_BATCH):
            logits = answer_in_parts(lambda part: model(normalise(part)), pixels.to(device))
            found.append((logits if classes is None else restrict_logits(logits, classes)).argmax(dim=1).cpu())
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)


def true_classes(teacher: Teacher, subtask: Subtask, images: ImageSet) -> NDArray[np.int64]:
    """Return the labels (N,), with the teacher's answers for the images that have none."""
    if not unlabelled_count(images):
        return np.asarray(images.labels, dtype=np.int64)
    return fill_in(images.labels, predict_classes(teacher.model, teacher, images, subtask.class_indices))


def _copy_weights(student: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in student.state_dict().items()}


def _save(run: Run, learner: Learner, outcome: Outcome) -> None:
    if run.folder is None:
        return
    lines = [json.dumps(asdict(record)) for record in outcome.history]
    write_text(run.folder / "metrics.jsonl", "\n".join(lines) + "\n", inside=run.folder)
    scaler = run.accelerator.scaler
    state = {
        "fingerprint": run.fingerprint,
        "views": run.augmentation.views,
        "objective": learner.objective.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "average": learner.average.state_dict() if learner.average is not None else None,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "teacher_accuracy": outcome.teacher_accuracy,
        "history": [asdict(record) for record in outcome.history],
        "best_epoch": outcome.best_epoch,
        "best_accuracy": outcome.best_accuracy,
        "best_loss": outcome.best_loss,
        "best_weights": dict(outcome.best_weights),
        "best_counts": None if outcome.best_counts is None else outcome.best_counts.tolist(),
        "doubted_after": outcome.doubted_after,
    }
    write_checkpoint(run.folder / "checkpoint" / "state.pt", state, run.folder)


def _outcome_from(saved: Mapping[str, Any]) -> Outcome:
    return Outcome(
        teacher_accuracy=saved["teacher_accuracy"],
        history=tuple(EpochRecord(**record) for record in saved["history"]),
        best_epoch=saved["best_epoch"],
        best_accuracy=saved["best_accuracy"],
        best_loss=saved.get("best_loss", math.inf),
        best_weights=saved["best_weights"],
        best_counts=_counts_from(saved.get("best_counts")),
        doubted_after=saved.get("doubted_after", 0),
    )


def _counts_from(saved: list[list[int]] | None) -> Counts | None:
    return None if saved is None else np.array(saved, dtype=np.int64)
