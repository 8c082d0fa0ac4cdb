"""Do the teacher's labels stand in the order of its outputs? One line too many in a label file moves all of them.

A student would learn such a teacher's wrong answers for hours, so a few images are asked before the training.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedistill.data.loader import open_loader
from edgedistill.models.teacher import Teacher
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.statistics.chance import compare_with_chance
from edgedistill_deploy.statistics.paired import drop_interval
from edgedistill_deploy.wording import percent, percent_interval

SAMPLE = 128
_BATCH = 32
_SHIFTS = (-1, 1, -2, 2)
_CONFIDENCE = 0.999  # to refuse labels; several shifts are tried
_FEW = 5  # images of a class, on average, from which "most of them" means something

Classes = NDArray[np.int64]


def check_teacher_labels(
    teacher: Teacher, subtask: Subtask, images: ImageSet, split: str = "validation"
) -> tuple[str, ...]:
    """Ask the teacher about a sample of the subtask's images, and compare its answers with their labels.

    Args:
        teacher: its labels are judged.
        subtask: the classes that were found by these labels.
        images: labelled in the subtask's order, all of them; at most `SAMPLE` are read, spread evenly.
        split: what the images are called in sentences.

    Returns sentences for the user where the teacher is not better than chance.

    Raises:
        UsageError: the answers fit the labels far better with all labels one or two places further on.
    """
    sample = images.select(np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64)))
    logits = torch.cat([*_answers(teacher, sample)])
    labels = np.asarray(sample.labels, dtype=np.int64)
    outputs = np.asarray(logits.argmax(dim=1).numpy(), dtype=np.int64)
    _refuse_shift(teacher, outputs, _outputs_of_labels(subtask, logits.shape[1])[labels], split)
    kept = np.asarray(restrict_logits(logits, subtask.class_indices).argmax(dim=1).numpy(), dtype=np.int64)
    found = compare_with_chance(labels, kept)
    if found.standing != "at_chance":
        return ()
    sentence = (
        f"the teacher is right on {percent(found.accuracy)} of {found.size} {split} images (interval "
        f"{percent_interval(found.interval)}), which is not better than chance, {percent(found.chance)}: there is "
        "nothing to learn from it, and validate will fail. Are its labels in the order of its outputs?"
    )
    return (sentence, *_name_other_order(teacher, subtask, labels, outputs))


def _answers(teacher: Teacher, images: ImageSet) -> Iterator[Tensor]:
    """Yield the logits (n, all outputs) of one batch of images after another."""
    device = next(teacher.model.parameters()).device
    normalise = teacher.normalise().to(device)
    with evaluating(teacher.model), torch.no_grad():
        for pixels, *_ in open_loader(images, teacher.preprocess, _BATCH):
            yield teacher.model(normalise(pixels.to(device))).float().cpu()


def _outputs_of_labels(subtask: Subtask, count: int) -> NDArray[np.bool_]:
    """Tell for each class and each of `count` outputs whether the class is made of it: (C, count)."""
    table = np.zeros((len(subtask), count), dtype=np.bool_)
    for label, members in enumerate(subtask.members):
        table[label, list(members)] = True
    return table


def _refuse_shift(teacher: Teacher, outputs: Classes, labelled: NDArray[np.bool_], split: str) -> None:
    """Compare the outputs (n,) that the teacher answers with those of the labels (n, all) and their neighbours."""
    rows, count = np.arange(len(outputs)), labelled.shape[1]
    right = labelled[rows, outputs]
    for shift in _SHIFTS:
        there = (outputs - shift >= 0) & (outputs - shift < count)
        moved = there & labelled[rows, np.clip(outputs - shift, 0, count - 1)]
        low, _ = drop_interval(int(np.sum(moved & ~right)), int(np.sum(right & ~moved)), len(right), _CONFIDENCE)
        if low > 0 and moved.mean() > 2 * right.mean():
            lines = "one line" if abs(shift) == 1 else f"{abs(shift)} lines"
            places = "one place" if abs(shift) == 1 else f"{abs(shift)} places"
            advice = f"has {lines} too many" if shift < 0 else f"lacks {lines}"
            raise UsageError(
                f"The labels of the teacher {teacher.name} do not stand in the order of its outputs: of {len(right)} "
                f"{split} images it gives {percent(float(right.mean()))} the output of their label, and "
                f"{percent(float(moved.mean()))} the output {places} {'before' if shift < 0 else 'after'} it. The list "
                f"of labels (--teacher-classes) {advice} above these classes; its first line is "
                f"{teacher.class_names[0]!r}. Give one label for each output, in output order."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answered:
    """The output that most images of a class get, and their number."""

    name: str
    output: int
    count: int


def _name_other_order(teacher: Teacher, subtask: Subtask, labels: Classes, outputs: Classes) -> tuple[str, ...]:
    """Name the labels that the teacher's answers do fit, where each class has mostly one of its own."""
    answered = []
    for place, name in enumerate(subtask.class_names):
        given = outputs[labels == place]
        if len(given):
            counts = np.bincount(given)
            answered.append(_Answered(name=name, output=int(counts.argmax()), count=int(counts.max())))
    distinct = len({each.output for each in answered}) == len(answered)
    most = sum(each.count for each in answered) > len(labels) / 2
    if not distinct or not most or len(labels) < _FEW * len(answered):
        return ()
    shown = ", ".join(f"{each.name!r} as {teacher.class_names[each.output]!r}" for each in answered[:5])
    return (f"the teacher's answers fit the labels in another order: it answers most images of {shown}.",)
