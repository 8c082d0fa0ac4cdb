"""The figures of a parity record: counts and averages over the images that both models answered."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.records.classes import ClassAnswers, ClassFigures, ClassParity, ClassStatistics
from edgedistill_deploy.records.parity import Accuracy, ConfidenceCalibration, InDomain, Numeric
from edgedistill_deploy.statistics.paired import drop_interval, holm, mcnemar_p, wilson_interval

Logits = NDArray[np.float32]
Classes = NDArray[np.int64]
Right = NDArray[np.bool_]

NOT_FINITE = -1  # a class that matches no label and no teacher
CALIBRATION_BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: the cached properties need a place
class Answers:
    """Logits (n, C) of the teacher and of the candidate on the same images, and the labels (n,), -1 where unknown.

    `in_domain` (n,) is the candidate's output of that name, None if it has none.
    """

    teacher: Logits = field(repr=False)
    candidate: Logits = field(repr=False)
    labels: Classes = field(repr=False)
    in_domain: Right | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def expected(self) -> Classes:
        """The teacher's classes (n,)."""
        return predicted_classes(self.teacher)

    @cached_property
    def predicted(self) -> Classes:
        """The candidate's classes (n,); `NOT_FINITE` for an image with a logit that is not finite."""
        return predicted_classes(self.candidate)

    @property
    def labelled(self) -> Right:
        """True (n,) for each image with a known label."""
        return self.labels >= 0

    @property
    def agreeing_count(self) -> int:
        """The number of images that get the same class from both."""
        return int(np.sum(self.predicted == self.expected))


def predicted_classes(logits: Logits) -> Classes:
    """Return the class of the largest logit of each row, `NOT_FINITE` for a row with a logit that is not finite."""
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, np.argmax(logits, axis=1), NOT_FINITE)


def measure_accuracy(answers: Answers, confidence: float) -> Accuracy:
    """Count the right answers on the labelled images, and those that only one model gives."""
    teacher_right, right = _right(answers, answers.labelled)
    lost, gained = count_lost_and_gained(teacher_right, right)
    count = len(right)
    return Accuracy(
        labelled_count=count,
        teacher=_share(teacher_right),
        teacher_interval=wilson_interval(int(teacher_right.sum()), count, confidence),
        candidate=_share(right),
        candidate_interval=wilson_interval(int(right.sum()), count, confidence),
        drop=(lost - gained) / count if count else None,
        interval=drop_interval(lost, gained, count, confidence),
        confidence=confidence,
        lost_count=lost,
        gained_count=gained,
        mcnemar_p=mcnemar_p(lost, gained),
    )


def measure_classes(names: tuple[str, ...], answers: Answers, confidence: float) -> ClassFigures:
    """Compare the models class by class, on the images with its label.

    A class of which no image has a label is tested by how often both models answer with it on the images without one.
    A class without any such image is not tested.
    """
    outcomes = [_class_outcome(answers, index) for index in range(len(names))]
    tested = [index for index, outcome in enumerate(outcomes) if outcome.size]
    adjusted = dict(zip(tested, holm([mcnemar_p(*outcomes[index].counts) for index in tested]), strict=True))
    joint, level = 1 - (1 - confidence) / max(1, len(tested)), 1 - confidence
    rows = tuple(
        _class_parity(name, outcome, adjusted.get(index, 1.0), joint, level)
        for index, (name, outcome) in enumerate(zip(names, outcomes, strict=True))
    )
    statistics = ClassStatistics(
        tested_count=len(tested), correction="holm", interval_correction="bonferroni", interval_confidence=joint
    )
    return ClassFigures(per_class=rows, class_statistics=statistics)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClassOutcome:
    """On the images of a class, whether each model is right (n,); without labels, whether it answers with the class."""

    has_labels: bool
    teacher: Right
    candidate: Right
    answer_count: int

    @property
    def size(self) -> int:
        """The number of images that tell about the class."""
        return len(self.teacher)

    @property
    def counts(self) -> tuple[int, int]:
        return count_lost_and_gained(self.teacher, self.candidate)


def _class_outcome(answers: Answers, index: int) -> _ClassOutcome:
    expected, predicted = answers.expected == index, answers.predicted == index
    rows = answers.labels == index
    has_labels = bool(rows.any())
    if not has_labels:
        rows = ~answers.labelled & (expected | predicted)
    return _ClassOutcome(
        has_labels=has_labels, teacher=expected[rows], candidate=predicted[rows], answer_count=int(predicted.sum())
    )


def _class_parity(name: str, outcome: _ClassOutcome, adjusted_p: float, joint: float, level: float) -> ClassParity:
    lost, gained = outcome.counts
    p, significant = mcnemar_p(lost, gained), lost > gained and adjusted_p < level
    if not outcome.has_labels:
        return _unlabelled_class(name, outcome, p, adjusted_p, significant)
    count = outcome.size
    return ClassParity(
        name=name,
        support=count,
        teacher=_share(outcome.teacher),
        candidate=_share(outcome.candidate),
        drop=(lost - gained) / count,
        interval=drop_interval(lost, gained, count, joint),
        lost_count=lost,
        gained_count=gained,
        mcnemar_p=p,
        adjusted_p=adjusted_p,
        significantly_worse=significant,
        answer_count=outcome.answer_count,
    )


def _unlabelled_class(
    name: str, outcome: _ClassOutcome, p: float, adjusted_p: float, significantly_rarer: bool
) -> ClassParity:
    lost, gained = outcome.counts
    answers = ClassAnswers(
        teacher_count=int(outcome.teacher.sum()),
        candidate_count=int(outcome.candidate.sum()),
        lost_count=lost,
        gained_count=gained,
        mcnemar_p=p,
        adjusted_p=adjusted_p,
        significantly_rarer=significantly_rarer,
    )
    return ClassParity(
        name=name,
        support=0,
        teacher=None,
        candidate=None,
        drop=None,
        interval=drop_interval(0, 0, 0),
        lost_count=0,
        gained_count=0,
        mcnemar_p=1.0,
        adjusted_p=1.0,
        significantly_worse=False,
        answer_count=outcome.answer_count,
        unlabelled=answers if outcome.size else None,
    )


def measure_confidence_calibration(answers: Answers) -> ConfidenceCalibration:
    """Measure for both models how far their confidences are from their accuracies."""
    rows = answers.labelled
    return ConfidenceCalibration(
        teacher=calibration_error(answers.teacher[rows], answers.labels[rows]),
        candidate=calibration_error(answers.candidate[rows], answers.labels[rows]),
        bins=CALIBRATION_BINS,
        binning="equal-width",
    )


def measure_in_domain(answers: Answers) -> InDomain | None:
    """Count the images that the candidate accepts as the subtask's; None if it has no such output."""
    if answers.in_domain is None:
        return None
    _, right = _right(answers, answers.labelled & answers.in_domain)
    return InDomain(accepted=float(answers.in_domain.mean()), accepted_accuracy=_share(right))


def calibration_error(logits: Logits, labels: Classes, bins: int = CALIBRATION_BINS) -> float | None:
    """Return the expected calibration error; None without images or with logits that are not finite."""
    if not len(labels) or not np.isfinite(logits).all():
        return None
    confidences = np.exp(log_softmax(logits).max(axis=1))
    right = np.argmax(logits, axis=1) == labels
    # Bins are open below and closed above, (0, 1/15], ..., (14/15, 1].
    places = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=right - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def mean_divergence(teacher: Logits, candidate: Logits) -> float | None:
    """Return the mean KL(teacher || candidate) of the softmax outputs in nats; None if a logit is not finite."""
    if not np.isfinite(candidate).all():
        return None
    p, q = log_softmax(teacher), log_softmax(candidate)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def numeric_error(given: Logits, expected: Logits, relative: float | None) -> Numeric:
    """Compare logits with the recorded ones; the tolerance is `relative` to the largest recorded logit."""
    tolerance = None if relative is None else relative * float(np.abs(expected).max(initial=0.0)) + 1e-6
    if given.shape != expected.shape or not np.isfinite(given).all():
        return Numeric(max_abs_error=None, cosine=None, tolerance=tolerance, image_count=len(expected))
    wide, recorded = given.astype(np.float64), expected.astype(np.float64)
    norms = float(np.linalg.norm(wide) * np.linalg.norm(recorded))
    return Numeric(
        max_abs_error=float(np.abs(wide - recorded).max(initial=0.0)),
        cosine=float(np.sum(wide * recorded)) / norms if norms > 0 else None,
        tolerance=tolerance,
        image_count=len(expected),
    )


def log_softmax(logits: Logits) -> NDArray[np.float64]:
    """Return the logarithm of the softmax outputs (n, C), in float64."""
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def largest_probabilities(answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest softmax outputs (n,) of teacher and candidate; NaN if a logit is not finite."""
    finite = answers.predicted >= 0
    candidate = np.full(len(answers), np.nan)
    candidate[finite] = np.exp(log_softmax(answers.candidate[finite])).max(axis=1, initial=0.0)
    return np.exp(log_softmax(answers.teacher)).max(axis=1), candidate


def _right(answers: Answers, rows: Right) -> tuple[Right, Right]:
    labels = answers.labels[rows]
    return answers.expected[rows] == labels, answers.predicted[rows] == labels


def count_lost_and_gained(teacher_right: Right, right: Right) -> tuple[int, int]:
    """Return the number of images that only the teacher gets right, and that only the candidate does."""
    return int(np.sum(teacher_right & ~right)), int(np.sum(~teacher_right & right))


def _share(right: Right) -> float | None:
    return float(right.mean()) if len(right) else None
