"""Is the model that runs here as good on the subtask as the teacher it came from?

The teacher's answers were recorded when the bundle was built, so neither the teacher nor torch is needed. The verdict is about
the paired difference in accuracy, with its uncertainty; a runtime that breaks a metamorphic relation, returns numbers that are
not finite, or does not compute the exported model fails whatever its accuracy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy._evaluation import Evaluation, open_evaluation
from edgedistill_deploy._records import SCHEMA, plain, record_path
from edgedistill_deploy.bundle import Bundle
from edgedistill_deploy.device import read_device
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.files import write_json
from edgedistill_deploy.images import ImageSet
from edgedistill_deploy.metamorphic import RelationResult, check_relations, raw_logits
from edgedistill_deploy.paired import (
    Interval,
    Verdict,
    drop_interval,
    images_to_bound,
    images_to_decide,
    mcnemar_p,
    non_inferiority,
    wilson_interval,
)
from edgedistill_deploy.reference import read_golden
from edgedistill_deploy.session import Session

Progress = Callable[[int, int], None]
Logits = NDArray[np.float32]
Classes = NDArray[np.int64]

_RELATION_IMAGES = 8
_NOT_FINITE = -1  # a class that matches no label and no teacher

# Largest error against the recorded outputs of the fp32 student, relative to the largest of them, before the runtime is said to
# compute another function. TF32 stays below 1e-2. INT8 differs by design: there the accuracy decides.
_GOLDEN_TOLERANCES = {"fp32": 2e-2, "fp16": 5e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityLimits:
    """The largest drop in accuracy allowed (absolute, 0.02 is two points), and the confidence of the two-sided intervals."""

    max_drop: float = 0.02
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 1:
            raise UsageError(f"max_drop is {self.max_drop}; it must lie between 0 and 1: 0.02 is two points.")
        if not 0 < self.confidence < 1:
            raise UsageError(
                f"confidence is {self.confidence}; it must lie between 0 and 1, for example 0.95."
            )


DEFAULT_LIMITS = ParityLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Shares of the labelled images that are right, and the paired drop. Shares are None when no label is known."""

    labelled_count: int
    teacher: float | None
    teacher_interval: Interval
    candidate: float | None
    candidate_interval: Interval
    drop: float | None
    interval: Interval
    confidence: float
    lost_count: int
    gained_count: int
    mcnemar_p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassParity:
    """Accuracies on the images of one class; None when it has no labelled image."""

    name: str
    support: int
    teacher: float | None
    candidate: float | None
    drop: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeric:
    """Logits against those recorded: the student's golden outputs, or for precision "teacher" the teacher's own.

    `cosine` is over all logits at once. None where nothing was recorded, or where a logit is not finite.
    """

    max_abs_error: float | None = None
    cosine: float | None = None
    tolerance: float | None = None
    image_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """Everything a parity check found; `to_json` is the record."""

    bundle: str
    device: str
    runtime: str
    provider: str
    precision: str
    model_sha256: str
    sample_count: int
    unknown_count: int
    accuracy: Accuracy
    agreement: float
    agreement_interval: Interval
    mean_kl: float | None
    per_class: tuple[ClassParity, ...]
    numeric: Numeric
    metamorphic: tuple[RelationResult, ...]
    limits: ParityLimits
    verdict: Verdict
    reasons: tuple[str, ...]
    images_to_decide: int | None = None
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return the record: kind "parity", schema 1, plain JSON values without NaN."""
        return {"kind": "parity", "schema": SCHEMA, **plain(self)}


def check_parity(
    bundle: Bundle,
    session: Session,
    images: ImageSet | None = None,
    limits: ParityLimits = DEFAULT_LIMITS,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> ParityReport:
    """Compare the model in `session` with the teacher's recorded answers, image by image.

    `images` are the evaluation images, from which the subtask's are taken; without them those recorded in the bundle are used.
    Images are read in batches and not kept. `progress` is called with (images done, images in all). See `paired` for the
    meaning of the verdict. Raises DataError when no image can be compared and BundleError when files do not fit each other.
    """
    evaluation = open_evaluation(bundle, images)
    candidate = _answers(session, evaluation, batch_size, progress)
    relations = check_relations(session, evaluation.sample(_RELATION_IMAGES))
    numeric = _numeric(bundle, session, candidate, evaluation.teacher)
    predicted, expected = _predicted(candidate), _predicted(evaluation.teacher)
    accuracy = _accuracy(evaluation.labels, expected, predicted, limits.confidence)
    agreeing, count = int(np.sum(predicted == expected)), len(expected)
    defects = _defects(predicted, numeric, relations)
    verdict, reasons, needed = _judge(accuracy, agreeing, count, candidate.shape[1], limits)
    return ParityReport(
        bundle=bundle.path.resolve().name,
        device=read_device().name,
        runtime=session.runtime,
        provider=session.provider,
        precision=session.precision,
        model_sha256=session.model_sha256,
        sample_count=count,
        unknown_count=evaluation.unknown_count,
        accuracy=accuracy,
        agreement=agreeing / count,
        agreement_interval=wilson_interval(agreeing, count, limits.confidence),
        mean_kl=_mean_kl(evaluation.teacher, candidate),
        per_class=_per_class(bundle.class_names, evaluation.labels, expected, predicted),
        numeric=numeric,
        metamorphic=relations,
        limits=limits,
        verdict="fail" if defects else verdict,
        reasons=(*defects, *reasons, *_permutation(expected, predicted, bundle.class_names)),
        images_to_decide=None if defects else needed,
        notes=evaluation.notes,
    )


def write_parity(bundle: Bundle, report: ParityReport) -> Path:
    """Write the record to parity/DEVICE-RUNTIME-PRECISION.json in the bundle and return its path."""
    path = record_path(bundle.path, "parity", report.device, report.runtime, report.precision)
    write_json(path, report.to_json())
    return path


def _answers(session: Session, evaluation: Evaluation, batch_size: int, progress: Progress | None) -> Logits:
    """Return the candidate's logits (n, C) on all images, which stream by in batches."""
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; it must be 1 or more.")
    answers: list[Logits] = []
    done, count = 0, len(evaluation.labels)
    for batch in evaluation.prepared(np.arange(count), batch_size):
        logits = raw_logits(session, batch)
        expected = (len(batch), evaluation.teacher.shape[1])
        if logits.shape != expected:
            raise BundleError(
                f"{session.model_path.name} answers {len(batch)} images with logits of shape {logits.shape} where the subtask needs "
                f"{expected}; the model does not belong to this bundle."
            )
        answers.append(logits)
        done += len(batch)
        if progress:
            progress(done, count)
    return np.concatenate(answers)


def _predicted(logits: Logits) -> Classes:
    finite = np.isfinite(logits).all(axis=1)
    return np.where(finite, np.argmax(logits, axis=1), _NOT_FINITE)


def _accuracy(labels: Classes, expected: Classes, predicted: Classes, confidence: float) -> Accuracy:
    labelled = labels >= 0
    count = int(labelled.sum())
    teacher_right, right = (expected == labels)[labelled], (predicted == labels)[labelled]
    lost, gained = int(np.sum(teacher_right & ~right)), int(np.sum(~teacher_right & right))
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


def _share(right: NDArray[np.bool_]) -> float | None:
    return float(right.mean()) if len(right) else None


def _per_class(
    names: tuple[str, ...], labels: Classes, expected: Classes, predicted: Classes
) -> tuple[ClassParity, ...]:
    rows = []
    for index, name in enumerate(names):
        members = labels == index
        teacher, candidate = _share(expected[members] == index), _share(predicted[members] == index)
        drop = None if teacher is None or candidate is None else teacher - candidate
        rows.append(
            ClassParity(
                name=name, support=int(members.sum()), teacher=teacher, candidate=candidate, drop=drop
            )
        )
    return tuple(rows)


def _numeric(bundle: Bundle, session: Session, candidate: Logits, teacher: Logits) -> Numeric:
    if session.precision == "teacher":
        return _numeric_error(candidate, teacher, None)
    if not bundle.has("golden"):
        return Numeric()
    inputs, outputs = read_golden(bundle.file("golden"))
    return _numeric_error(raw_logits(session, inputs), outputs, _GOLDEN_TOLERANCES.get(session.precision))


def _numeric_error(given: Logits, expected: Logits, relative: float | None) -> Numeric:
    tolerance = None if relative is None else relative * float(np.abs(expected).max(initial=0.0)) + 1e-6
    if given.shape != expected.shape or not np.isfinite(given).all():
        return Numeric(tolerance=tolerance, image_count=len(expected))
    wide, recorded = given.astype(np.float64), expected.astype(np.float64)
    norms = float(np.linalg.norm(wide) * np.linalg.norm(recorded))
    return Numeric(
        max_abs_error=float(np.abs(wide - recorded).max(initial=0.0)),
        cosine=float(np.sum(wide * recorded)) / norms if norms > 0 else None,
        tolerance=tolerance,
        image_count=len(expected),
    )


def _mean_kl(teacher: Logits, candidate: Logits) -> float | None:
    """Mean over images of KL(teacher || candidate) between the softmax outputs, in nats."""
    if not np.isfinite(candidate).all():
        return None
    p, q = _log_softmax(teacher), _log_softmax(candidate)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    normalised: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def _defects(predicted: Classes, numeric: Numeric, relations: tuple[RelationResult, ...]) -> list[str]:
    """Say what makes the model unfit whatever its accuracy."""
    broken = int(np.sum(predicted == _NOT_FINITE))
    defects = [f"{broken} of {len(predicted)} images gave logits that are not finite."] if broken else []
    defects += _numeric_defects(numeric)
    defects += [f"Relation {item.name} does not hold. {item.detail}" for item in relations if not item.passed]
    return defects


def _numeric_defects(numeric: Numeric) -> list[str]:
    if numeric.image_count and numeric.max_abs_error is None:
        return ["The recorded inputs gave logits that are not finite, or of another shape than recorded."]
    if (
        numeric.max_abs_error is None
        or numeric.tolerance is None
        or numeric.max_abs_error <= numeric.tolerance
    ):
        return []
    excess = f"{numeric.max_abs_error:.3g}, more than {numeric.tolerance:.3g}"
    return [
        f"The logits differ from the student's recorded outputs by up to {excess}: the runtime computes another function."
    ]


def _judge(
    accuracy: Accuracy, agreeing: int, count: int, class_count: int, limits: ParityLimits
) -> tuple[Verdict, list[str], int | None]:
    """Return the verdict on accuracy, the sentence behind it, and how many images would decide if it is inconclusive."""
    if class_count == 1:
        return "inconclusive", ["A subtask of one class has no accuracy that could drop."], None
    if accuracy.labelled_count == 0:
        return _judge_without_labels(count - agreeing, count, limits)
    verdict = non_inferiority(accuracy.interval, limits.max_drop)
    lost, gained, size = accuracy.lost_count, accuracy.gained_count, accuracy.labelled_count
    reasons = [_drop_sentence(accuracy, limits, verdict)]
    if verdict != "inconclusive":
        return verdict, reasons, None
    needed = images_to_decide(lost, gained, size, limits.max_drop, limits.confidence)
    return verdict, [*reasons, _needed_sentence(needed, "labelled images")], needed


def _judge_without_labels(
    disagreeing: int, count: int, limits: ParityLimits
) -> tuple[Verdict, list[str], int | None]:
    """Without labels the disagreement bounds the drop from above: it can let a candidate pass, but not fail it."""
    bound = wilson_interval(disagreeing, count, limits.confidence)[1]
    passed = bound < limits.max_drop
    comparison = "below" if passed else "not below"
    reason = (
        f"No label is known, so only the disagreement with the teacher was bounded: at most {bound:.2%} of the images, "
        f"{comparison} the {limits.max_drop:.2%} allowed for the drop."
    )
    if passed:
        return "pass", [reason], None
    needed = images_to_bound(disagreeing, count, limits.max_drop, limits.confidence)
    return "inconclusive", [reason, _needed_sentence(needed, "images")], needed


def _drop_sentence(accuracy: Accuracy, limits: ParityLimits, verdict: Verdict) -> str:
    place = {"pass": "below", "fail": "above", "inconclusive": "on both sides of"}[verdict]
    drop, (low, high) = accuracy.drop or 0.0, accuracy.interval
    return (
        f"The accuracy {'rises' if drop < 0 else 'drops'} by {100 * abs(drop):.2f} points on {accuracy.labelled_count} images; the "
        f"{limits.confidence:.0%} interval of the drop, {100 * low:.2f} to {100 * high:.2f} points, lies {place} the limit of "
        f"{100 * limits.max_drop:.2f}."
    )


def _needed_sentence(needed: int | None, what: str) -> str:
    if needed is None:
        return "At the rates observed no number of images would decide."
    return f"At the rates observed about {needed} {what} would decide."


def _permutation(expected: Classes, predicted: Classes, names: tuple[str, ...]) -> list[str]:
    """Notice a candidate that is right up to the order of its classes."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    known = predicted != _NOT_FINITE
    np.add.at(counts, (expected[known], predicted[known]), 1)
    seen = np.flatnonzero(counts.sum(axis=1))
    answer = counts[seen].argmax(axis=1) if len(seen) else seen
    swapped = seen != answer
    matched = counts[seen, answer].sum() / max(1, len(expected))
    if not swapped.any() or len(set(answer.tolist())) < len(answer) or matched < 0.7:
        return []
    pairs = ", ".join(
        f"{names[b]!r} for {names[a]!r}" for a, b in zip(seen[swapped], answer[swapped], strict=True)
    )
    return [f"The classes look interchanged: the model answers {pairs}. Check the order of the class names."]
