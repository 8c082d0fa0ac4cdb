"""Is the teacher fed the pixels that it was trained on? A wrong order of colours, scaling or size makes it guess.

A student would learn the guesses for hours, so a sample of images is prepared in other ways too before the training.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.models.pixels import PIXELS
from edgedistill.models.teacher import Teacher, with_pixels
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet, batches
from edgedistill_deploy.statistics.chance import AgainstChance, compare_with_chance
from edgedistill_deploy.statistics.paired import drop_interval
from edgedistill_deploy.wording import percent, percent_interval

SAMPLE = 128
FEW = 64  # of the sample, for the other preparations
GOOD = 0.95  # of a teacher that is right so often, no other preparation is asked for
SIDES = (32, 64, 128, 224, 299, 384)
_BATCH = 32
_CONFIDENCE = 0.999  # many preparations are tried
_SHOWN = 3

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A way to prepare images: its name, what the user can do to get it, and which images the teacher gets right."""

    name: str
    remedy: str
    right: Bools


def check_teacher_pixels(
    teacher: Teacher, subtask: Subtask, images: ImageSet, split: str = "validation"
) -> tuple[str, ...]:
    """Compare the teacher's accuracy on a sample of images with what it reaches on them prepared in other ways.

    Args:
        teacher: its preparation of images is judged.
        subtask: the classes that are told apart.
        images: labelled in the subtask's order, all of them; at most `SAMPLE` are read, spread evenly.
        split: what the images are called in sentences.

    Returns sentences: the accuracy with its interval, and beside it the best of the others if it is below `GOOD`.

    Raises:
        DataError: the teacher is at chance; the message says which other way works, or that none does.
    """
    sample = images.select(np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(np.int64)))
    labels = np.asarray(sample.labels, dtype=np.int64)
    prepared = _prepare(teacher, sample)
    answers = _answers(teacher, subtask, prepared)
    found = compare_with_chance(labels, answers)
    sentence = (
        f"the teacher is right on {percent(found.accuracy)} of {found.size} {split} images (interval "
        f"{percent_interval(found.interval)})"
    )
    if found.accuracy >= GOOD:
        return (sentence,)
    few = np.unique(np.linspace(0, len(sample) - 1, FEW).astype(np.int64))
    tried = _try_others(teacher, subtask, sample.select(few), prepared[few])
    others = sorted(tried, key=lambda each: -each.right.mean())
    better = [each for each in others if _is_better(each.right, (answers == labels)[few])]
    if found.standing == "at_chance":
        raise DataError(_at_chance(teacher, found, better, split))
    beside = ", ".join(f"{percent(float(each.right.mean()))} with {each.name}" for each in others[:_SHOWN])
    advice = f"images are not prepared as the teacher was trained: {better[0].remedy}" if better else ""
    return (f"{sentence}; on {len(few)} of them: {beside}", *filter(None, [advice]))


def _at_chance(teacher: Teacher, found: AgainstChance, better: list[_Tried], split: str) -> str:
    sentence = (
        f"The teacher {teacher.name} is right on {percent(found.accuracy)} of {found.size} {split} images, which is "
        f"not better than chance, {percent(found.chance)}: there is nothing to learn from it."
    )
    if better:
        share = percent(float(better[0].right.mean()))
        return f"{sentence} With {better[0].name} it is right on {share}: {better[0].remedy}."
    return (
        f"{sentence} No other order of colours, scaling or size helps; check that its labels (--teacher-classes) stand "
        "in the order of its outputs, and that its weights are trained ones."
    )


def _is_better(theirs: Bools, own: Bools) -> bool:
    low, _ = drop_interval(int(np.sum(theirs & ~own)), int(np.sum(own & ~theirs)), len(own), _CONFIDENCE)
    return low > 0


def _prepare(teacher: Teacher, sample: ImageSet) -> NDArray[np.uint8]:
    return np.concatenate(list(batches(sample, teacher.preprocess, _BATCH)))


def _answers(teacher: Teacher, subtask: Subtask, prepared: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the position among the subtask's classes of the largest logit of each image (n,)."""
    device = next(teacher.model.parameters()).device
    normalise = teacher.normalise().to(device)
    with evaluating(teacher.model), torch.no_grad():
        found = [
            restrict_logits(teacher.model(normalise(each.to(device))), subtask.class_indices).argmax(dim=1).cpu()
            for each in torch.split(torch.from_numpy(prepared), _BATCH)
        ]
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)


def _try_others(teacher: Teacher, subtask: Subtask, sample: ImageSet, prepared: NDArray[np.uint8]) -> Iterator[_Tried]:
    labels = np.asarray(sample.labels, dtype=np.int64)
    for name in PIXELS:
        other = with_pixels(teacher, name)
        right = _answers(other, subtask, prepared) == labels
        yield _Tried(name=f"pixels {name}", remedy=f"give --teacher-pixels {name}", right=right)
    for name, remedy, changes in _other_sizes(teacher):
        other = replace(teacher, preprocess=replace(teacher.preprocess, **changes))
        with contextlib.suppress(Exception):  # a network that takes one size alone may raise anything
            right = _answers(other, subtask, _prepare(other, sample)) == labels
            yield _Tried(name=name, remedy=remedy, right=right)


def _other_sizes(teacher: Teacher) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (name, remedy, changed fields of the preprocessing)."""
    own = teacher.preprocess
    for side in SIDES:
        if (side, side) != own.size and side <= max(2 * max(own.size), SIDES[1]):
            yield f"images of {side} x {side}", f"give --image-size {side}", {"size": (side, side)}
    for name, fields in (
        ("the whole image, squashed", {"resize_mode": "squash", "crop_fraction": 1.0}),
        ("the centre of the image, uncropped", {"resize_mode": "shortest", "crop_fraction": 1.0}),
        ("a crop of 0.875", {"resize_mode": "shortest", "crop_fraction": 0.875}),
    ):
        if any(getattr(own, key) != value for key, value in fields.items()):
            yield name, "set crop_mode and crop_pct in the config.json of a folder in timm's layout", fields
