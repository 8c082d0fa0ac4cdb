"""What does the teacher see in images without a label? Nobody else says whether they are of the subtask's classes."""

import numpy as np
import torch
from numpy.typing import NDArray

from edgedistill.data.loader import open_loader
from edgedistill.models.teacher import Teacher
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet
from edgedistill_deploy.wording import percent

SAMPLE = 512
_BATCH = 32
_SHOWN = 12  # classes in one sentence
_MANY = 0.5  # of the images; if more are of none of the classes, they may be the wrong images
_NONE = -1

Classes = NDArray[np.int64]


def describe_teacher_view(teacher: Teacher, subtask: Subtask, images: ImageSet) -> tuple[str, ...]:
    """Ask the teacher about images without a label, at most `SAMPLE`, spread evenly over them.

    An image is of none of the classes where another class of the teacher is likelier than each of them.

    Returns sentences: how many images it sees of each class and how many of none, and which classes it never sees.
    """
    rows = np.flatnonzero(images.labels == NO_LABEL)
    if not len(rows):
        return ()
    sample = images.select(rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64))])
    seen = _see(teacher, subtask, sample)
    counts = {name: int(np.sum(seen == place)) for place, name in enumerate(subtask.class_names)}
    return tuple(filter(None, (_say_counts(counts, seen), _say_none(seen), _say_absent(counts))))


def _see(teacher: Teacher, subtask: Subtask, images: ImageSet) -> Classes:
    """Return the position of the class that the teacher sees in each image (n,), `_NONE` for none of the subtask's."""
    device = next(teacher.model.parameters()).device
    normalise = teacher.normalise().to(device)
    found = []
    with evaluating(teacher.model), torch.no_grad():
        for pixels, *_ in open_loader(images, teacher.preprocess, _BATCH):
            every = teacher.model(normalise(pixels.to(device)))
            kept = restrict_logits(every, subtask.class_indices)
            inside = kept.amax(dim=1) >= every.amax(dim=1)
            found.append(torch.where(inside, kept.argmax(dim=1), _NONE).cpu())
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)


def _say_counts(counts: dict[str, int], seen: Classes) -> str:
    listed = [f"{name}: {count}" for name, count in sorted(counts.items(), key=lambda each: -each[1])]
    shown = listed if len(listed) <= _SHOWN else [*listed[: _SHOWN - 1], f"... ({len(listed)} classes)"]
    none = int(np.sum(seen == _NONE))
    return (
        f"of {len(seen)} images without a label the teacher sees: {', '.join(shown)}; {none} "
        f"({percent(none / len(seen))}) look to it like none of the classes"
    )


def _say_none(seen: Classes) -> str:
    if np.mean(seen == _NONE) <= _MANY:
        return ""
    return (
        "most images without a label look to the teacher like none of the classes: are they the right images, and does "
        "it get the pixels that it was trained on (--teacher-pixels)?"
    )


def _say_absent(counts: dict[str, int]) -> str:
    absent = [repr(name) for name, count in counts.items() if not count]
    if not absent:
        return ""
    listed = ", ".join(absent[:_SHOWN]) + (f", ... ({len(absent)} in all)" if len(absent) > _SHOWN else "")
    return (
        f"the teacher sees none of {listed} in the images without a label, so the expert learns little of it from "
        "them; add images of it"
    )
