"""Whether the expert should answer: a score of its logits, and a threshold that accepts a share of the subtask.

An expert knows only its own classes and gives one of them to every image. Two scores of the logits tell how much an
image looks like any of them: the energy, log sum exp (Liu et al., NeurIPS 2020), and the largest logit (Hendrycks et
al., ICML 2022). Validation images of the subtask decide the threshold. Images of the teacher's other classes decide the
score.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import JudgedBy, fill_in, judged_by
from edgedistill.models.normalise import normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.logits import restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.rejection.outside import OutsideImages
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet, batches
from edgedistill_deploy.progress import Progress, silent

SCORES = ("energy", "max_logit")
BATCH = 64
# A runtime adds in another order than torch; this must not bring the image at the threshold below it.
ROUNDING = 1e-4

Scores = NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejector:
    """A score of the logits, and the threshold for it."""

    score: str
    threshold: float

    def accepts(self, logits: Tensor) -> Tensor:
        """Tell for each row of logits (N, C) whether the image is accepted as one of the subtask: bool (N,)."""
        return reject_score(self.score, logits) >= self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectFigures:
    """Results of a model with a threshold on images of the subtask (inside) and of other classes (outside).

    `auroc` is the chance that an inside image scores above an outside one. `true_accept` and `false_accept` are the
    accepted shares of inside and outside. `accuracy` is over all inside images, `accepted_accuracy` over the accepted
    ones; the teacher's answers stand in for labels that there are not. A figure is None where there are no such images.
    """

    auroc: float | None
    true_accept: float
    false_accept: float | None
    accuracy: float
    accepted_accuracy: float | None
    inside_count: int
    outside_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRejection:
    """The same figures for the teacher: the same score of its subtask logits, with a threshold of its own.

    `all_class_true_accept` and `all_class_false_accept` are the shares of inside and outside test images that the
    teacher puts into a class of the subtask when it chooses among all its classes.
    """

    threshold: float
    test: RejectFigures
    all_class_true_accept: float
    all_class_false_accept: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A rejector, how it was chosen, and its results.

    `candidates` are the scores' AUROCs on validation images, empty where there are no images of other classes. `test`
    and `teacher` are None where the source has no test images. Test images are `judged_by` the teacher where they have
    no labels.
    """

    rejector: Rejector
    true_accept_target: float
    candidates: dict[str, float]
    validation: RejectFigures
    test: RejectFigures | None
    teacher: TeacherRejection | None
    judged_by: JudgedBy = "labels"

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        record = asdict(self)
        return {**record.pop("rejector"), **record}

    def sentences(self) -> Iterator[str]:
        """Say what was chosen, with its results."""
        kept = self.validation
        yield (
            f"in_domain is {self.rejector.score} >= {self.rejector.threshold:.4g}, which accepts "
            f"{kept.true_accept:.1%} of {kept.inside_count} validation images of the subtask"
        )
        if not kept.outside_count:
            yield (
                "the data has no validation images of the teacher's other classes, so the threshold comes from the "
                "subtask alone and the score, energy, was not compared"
            )
        if self.test is None:
            yield "the data has no test images, so the rejection was not measured on images it was not set on"
        else:
            yield f"the expert on test images {_describe(self.test, self.judged_by)}"
        if self.teacher is not None:
            figures = _describe(self.teacher.test, self.judged_by)
            yield f"the teacher with the same score {figures}; {_all_classes(self.teacher)}"


def fit_rejection(
    student: nn.Module,
    teacher: Teacher,
    subtask: Subtask,
    images: SubtaskImages,
    outside: OutsideImages,
    true_accept: float,
    *,
    progress: Progress = silent,
) -> Rejection:
    """Choose score and threshold on validation images and measure them on test images, for the student and its teacher.

    Args:
        student: trained; C outputs in the order of the subtask. It stays on the CPU.
        teacher: gives preprocessing and normalisation, and is measured too. It stays on the CPU.
        subtask: the classes.
        images: of the subtask; its validation images decide the threshold.
        outside: images of other classes, see `rejection.outside.find_outside`.
        true_accept: the share of the subtask's validation images that must be accepted, from 0.5 to below 1.
        progress: counts the images.

    Raises:
        UsageError: the share is out of range.
    """
    if not 0.5 <= true_accept < 1:
        raise UsageError(
            f"The share of images to accept must be from 0.5 to below 1, such as 0.95, and {true_accept} was given."
        )
    sets = (images.validation, outside.validation, images.test, outside.test)
    inside, others, test, other_test = _Asker(student.cpu(), teacher, subtask, progress).ask(sets)
    assert inside is not None
    candidates = {} if others is None else {name: _auroc_of(name, inside.student, others.student) for name in SCORES}
    score = max(candidates, key=candidates.__getitem__, default=SCORES[0])
    rejector, twin = (_fit(score, logits, true_accept) for logits in (inside.student, inside.teacher))
    return Rejection(
        rejector=rejector,
        true_accept_target=true_accept,
        candidates=candidates,
        validation=_figures(rejector, inside.student, inside.labels, _student(others)),
        test=None if test is None else _figures(rejector, test.student, test.labels, _student(other_test)),
        teacher=None if test is None else _teacher_figures(twin, test, other_test),
        judged_by=judged_by(images.evaluation),
    )


def reject_score(name: str, logits: Tensor) -> Tensor:
    """Return the score (N,) of logits (N, C): higher for images that look like one of the classes."""
    return torch.logsumexp(logits, dim=1) if name == "energy" else logits.amax(dim=1)


def auroc(inside: Scores, outside: Scores) -> float:
    """Return the area under the ROC curve, the chance that an inside score (n,) is above an outside one (m,).

    A tie counts one half. This is the rank sum of Mann and Whitney with midranks, over n * m.
    """
    n, m = len(inside), len(outside)
    _, places, counts = np.unique(np.concatenate([inside, outside]), return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(midranks[places[:n]].sum())
    return (rank_sum - n * (n + 1) / 2) / (n * m)


def accept_threshold(inside: Scores, share: float) -> float:
    """Return the threshold at and above which at least `share` of the scores (n,) lie.

    It is the highest such score, the (n - ceil(share * n) + 1)-th smallest, less `ROUNDING` of its size.
    """
    ordered = np.sort(inside)
    needed = math.ceil(share * len(ordered) - 1e-9)
    edge = float(ordered[len(ordered) - needed])
    return float(np.float32(edge - ROUNDING * max(1.0, abs(edge))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answers:
    """Subtask logits (n, C) of student and teacher, and whether the teacher's class is in the subtask (n,).

    The teacher's answers stand in for `labels` (n,) that there are not.
    """

    student: Tensor
    teacher: Tensor
    chosen_inside: Tensor
    labels: Tensor


class _Asker:
    """Shows images to student and teacher, each image prepared once for both."""

    def __init__(self, student: nn.Module, teacher: Teacher, subtask: Subtask, progress: Progress) -> None:
        self._student, self._teacher, self._subtask = student, teacher, subtask
        self._model, self._normalise = teacher.model.cpu(), teacher.normalise()
        self._normalise_for_student = normalise_of(student, self._normalise)
        self._progress = progress

    def ask(self, sets: tuple[ImageSet | None, ...]) -> list[_Answers | None]:
        done, total = 0, sum(len(images) for images in sets if images is not None)
        found: list[_Answers | None] = []
        for images in sets:
            parts = []
            for batch in () if images is None else batches(images, self._teacher.preprocess, BATCH):
                parts.append(self._both(torch.from_numpy(batch)))
                done += len(batch)
                self._progress(done, total)
            found.append(None if images is None else _join(parts, images))
        return found

    def _both(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with evaluating(self._student), evaluating(self._model), torch.no_grad():
            student = self._student(self._normalise_for_student(pixels))
            every = self._model(self._normalise(pixels))
            indices = torch.tensor(self._subtask.class_indices)
            teacher = restrict_logits(every, self._subtask.class_indices)
        return student, teacher, torch.isin(every.argmax(dim=1), indices)


def _join(parts: list[tuple[Tensor, Tensor, Tensor]], images: ImageSet) -> _Answers:
    student, teacher, chosen = (torch.cat(each) for each in zip(*parts, strict=True))
    labels = fill_in(images.labels, teacher.argmax(dim=1).numpy())
    return _Answers(student=student, teacher=teacher, chosen_inside=chosen, labels=torch.from_numpy(labels))


def _student(answers: _Answers | None) -> Tensor | None:
    return None if answers is None else answers.student


def _auroc_of(name: str, inside: Tensor, outside: Tensor) -> float:
    return auroc(reject_score(name, inside).numpy(), reject_score(name, outside).numpy())


def _fit(score: str, logits: Tensor, share: float) -> Rejector:
    return Rejector(score=score, threshold=accept_threshold(reject_score(score, logits).numpy(), share))


def _figures(rejector: Rejector, inside: Tensor, labels: Tensor, outside: Tensor | None) -> RejectFigures:
    accepted, right = rejector.accepts(inside), inside.argmax(dim=1) == labels
    return RejectFigures(
        auroc=None if outside is None else _auroc_of(rejector.score, inside, outside),
        true_accept=_share(accepted),
        false_accept=None if outside is None else _share(rejector.accepts(outside)),
        accuracy=_share(right),
        accepted_accuracy=_share(right[accepted]) if bool(accepted.any()) else None,
        inside_count=len(inside),
        outside_count=0 if outside is None else len(outside),
    )


def _teacher_figures(rejector: Rejector, test: _Answers, others: _Answers | None) -> TeacherRejection:
    return TeacherRejection(
        threshold=rejector.threshold,
        test=_figures(rejector, test.teacher, test.labels, None if others is None else others.teacher),
        all_class_true_accept=_share(test.chosen_inside),
        all_class_false_accept=None if others is None else _share(others.chosen_inside),
    )


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _describe(figures: RejectFigures, judged_by: JudgedBy) -> str:
    told = f"accepts {figures.true_accept:.1%} of {figures.inside_count} images of the subtask"
    if figures.accepted_accuracy is not None:
        right = "right" if judged_by == "labels" else "answered as by the teacher"
        told += f" ({figures.accepted_accuracy:.1%} of these {right}, {figures.accuracy:.1%} of all)"
    if figures.false_accept is not None:
        told += f" and {figures.false_accept:.1%} of {figures.outside_count} of other classes"
        told += f" (AUROC {figures.auroc:.3f})"
    return told


def _all_classes(teacher: TeacherRejection) -> str:
    told = f"choosing among all its classes it keeps {teacher.all_class_true_accept:.1%} of the subtask"
    if teacher.all_class_false_accept is not None:
        told += f" and takes {teacher.all_class_false_accept:.1%} of the others for it"
    return told
