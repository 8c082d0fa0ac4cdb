"""Checks whether the model that runs here is as good on the subtask as its teacher.

The teacher's answers were recorded when the bundle was built, so neither the teacher nor torch is needed. The verdict
depends on the paired difference in accuracy and its uncertainty. A model fails at any accuracy if a class of it is
dead, or if the runtime breaks a metamorphic relation, returns numbers that are not finite, or does not compute the
exported model.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.diagnosis.faults import WORTHLESS_REFERENCE, JudgedModel, diagnose
from edgedistill_deploy.diagnosis.runtime_faults import saturation_notes
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.evaluation import figures
from edgedistill_deploy.evaluation.figures import Answers, Logits, Right
from edgedistill_deploy.evaluation.images import Evaluation, open_evaluation
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity._classes import class_notes, judge_classes, unseen_classes
from edgedistill_deploy.parity._reference_checks import chance_left_open, reference_notes, with_reference_checks
from edgedistill_deploy.parity._verdict import defects_of, judge, unchecked_defects, with_defects, worst_judgement
from edgedistill_deploy.parity.consistency import check_consistency
from edgedistill_deploy.parity.metamorphic import check_relations
from edgedistill_deploy.parity.recorded import check_limits, compare_recorded
from edgedistill_deploy.parity.teacher_answers import find_teacher_file
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.parity import (
    DEFAULT_LIMITS,
    Arithmetic,
    Check,
    Findings,
    ImageCounts,
    Likeness,
    NotChecked,
    ParityLimits,
    ParityReport,
    Soundness,
)
from edgedistill_deploy.records.writing import record_path
from edgedistill_deploy.runtimes.int8_kernels import unfused_sentence
from edgedistill_deploy.runtimes.logits import raw_answers
from edgedistill_deploy.runtimes.opening import open_session
from edgedistill_deploy.runtimes.providers import nodes_elsewhere
from edgedistill_deploy.runtimes.session import Session, identify_model
from edgedistill_deploy.statistics.paired import wilson_interval

__all__ = [
    "DEFAULT_LIMITS",
    "ParityLimits",
    "ParityReport",
    "check_answers",
    "check_parity",
    "collect_answers",
    "write_parity",
]

_RELATION_IMAGES = 8


def check_parity(
    bundle: Bundle,
    session: Session,
    images: ImageSet | None = None,
    limits: ParityLimits = DEFAULT_LIMITS,
    batch_size: int = 64,
    progress: Progress = silent,
) -> ParityReport:
    """Compare the model in `session` with the teacher's recorded answers, image by image.

    The subtask's images are taken from `images`, by default from those recorded in the bundle. Images whose answers are
    not recorded are answered by the teacher's file in the bundle, with the runtime of `session`. Images are read in
    batches and not kept. `progress` counts images. See `paired` for the meaning of the verdict.

    Raises DataError if no image can be compared, BundleError if files do not fit each other, and UsageError if a class
    that the limits allow is none of the bundle's.
    """
    limits.allowed_among(bundle.classes)

    def open_teacher() -> Session:
        return open_session(
            bundle, runtime=session.runtime, precision="teacher", provider=session.provider, threads=session.threads
        )

    evaluation = open_evaluation(bundle, images, find_teacher_file(bundle, open_teacher))
    evaluation = with_reference_checks(bundle, evaluation, open_teacher)
    answers = collect_answers(session, evaluation, batch_size, progress)
    return check_answers(bundle, session, evaluation, answers, limits)


def write_parity(bundle: Bundle, report: ParityReport | Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write a report, or a device's record of one, to parity/DEVICE-RUNTIME-PRECISION.json; return the path.

    It is written in the bundle, or in another folder for records.
    """
    record = report.to_json() if isinstance(report, ParityReport) else report
    root = folder or bundle.path
    path = record_path(root, record)
    write_json(path, record, inside=root)
    return path


def collect_answers(
    session: Session, evaluation: Evaluation, batch_size: int = 64, progress: Progress = silent
) -> Answers:
    """Return both models' answers to all images, which are read in batches; `progress` counts them.

    Raises UsageError for a batch size below 1, and BundleError if the model's logits have the wrong shape.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size is {batch_size}; it must be 1 or more.")
    answers: list[Logits] = []
    decisions: list[Right] = []
    done, count = 0, len(evaluation.labels)
    for batch in evaluation.prepared(np.arange(count), batch_size):
        logits, in_domain = raw_answers(session, batch)
        expected = (len(batch), evaluation.teacher.shape[1])
        if logits.shape != expected:
            raise BundleError(
                f"{session.model_path.name} answers {len(batch)} images with logits of shape {logits.shape} where the "
                f"subtask needs {expected}; the model does not belong to this bundle."
            )
        answers.append(logits)
        if in_domain is not None:
            decisions.append(in_domain)
        done += len(batch)
        progress(done, count, "images")
    return Answers(
        teacher=evaluation.teacher,
        candidate=np.concatenate(answers),
        labels=evaluation.labels,
        in_domain=np.concatenate(decisions) if decisions else None,
    )


def check_answers(
    bundle: Bundle, session: Session, evaluation: Evaluation, answers: Answers, limits: ParityLimits
) -> ParityReport:
    """Compare the answers of the model in `session`, and check the model itself, as `check_parity` does."""
    device = read_device()
    accuracy = figures.measure_accuracy(answers, limits.confidence)
    classes = figures.measure_classes(bundle.class_names, answers, limits.confidence)
    class_judgement = judge_classes(classes, answers, limits)
    soundness = _check_soundness(bundle, session, evaluation, answers, limits.confidence)
    soundness = replace(soundness, not_checked=(*soundness.not_checked, *unseen_classes(classes, limits)))
    judged = JudgedModel(
        bundle=bundle, session=session, evaluation=evaluation, answers=answers, confidence=limits.confidence
    )
    defects = defects_of(answers, soundness)
    judgement = judge(accuracy, answers, limits)
    is_bad = bool(defects) or "fail" in (judgement.verdict, class_judgement.verdict)
    is_bad = is_bad or (accuracy.drop or 0.0) > limits.max_drop
    diagnosis = diagnose(judged, failed=is_bad)
    defects += [found.detail for found in diagnosis if found.name in WORTHLESS_REFERENCE]
    defects += unchecked_defects(soundness, limits)  # these are no faults to diagnose
    return ParityReport(
        bundle=bundle.name,
        model=identify_model(session, device.name),
        images=ImageCounts(
            sample_count=len(answers),
            unknown_count=evaluation.unknown_count,
            answered_count=0 if evaluation.answered is None else len(evaluation.answered.answers.labels),
        ),
        accuracy=accuracy,
        likeness=_measure_likeness(answers, limits.confidence),
        classes=classes,
        soundness=soundness,
        judgement=worst_judgement(class_judgement, with_defects(judgement, defects)),
        findings=Findings(
            notes=(
                *evaluation.notes,
                *reference_notes(evaluation, answers, accuracy),
                *class_notes(classes, class_judgement.class_findings or ()),
                *filter(None, [nodes_elsewhere(session.provider, session.placement)]),
                *saturation_notes(judged),
                *filter(None, [_unfused_note(session)]),
            ),
            diagnosis=diagnosis,
            in_domain=figures.measure_in_domain(answers),
        ),
        arithmetic=Arithmetic(
            placement=None if session.placement is None else dict(session.placement),
            int8_instructions=device.int8_instructions,
            int8_kernels=session.int8_kernels,
        ),
    )


def _unfused_note(session: Session) -> str:
    return unfused_sentence(session.model_path.name) if session.int8_kernels == "unfused" else ""


def _measure_likeness(answers: Answers, confidence: float) -> Likeness:
    agreeing, count = answers.agreeing_count, len(answers)
    return Likeness(
        agreement=agreeing / count,
        agreement_interval=wilson_interval(agreeing, count, confidence),
        mean_kl=figures.mean_divergence(answers.teacher, answers.candidate),
        confidence_calibration=figures.measure_confidence_calibration(answers),
    )


def _check_soundness(
    bundle: Bundle, session: Session, evaluation: Evaluation, answers: Answers, confidence: float
) -> Soundness:
    rows = evaluation.spread(_RELATION_IMAGES)
    names = [evaluation.name(int(row)) for row in rows]
    numeric, not_compared = compare_recorded(bundle, session, answers)
    found = (
        *check_consistency(bundle, session.model_path, session.precision),
        check_limits(session, bundle.preprocess.size, len(bundle.class_names)),
        *not_compared,
        *evaluation.checks,
        *chance_left_open(answers, confidence),
    )
    return Soundness(
        metamorphic=check_relations(session, evaluation.images(rows), names),
        numeric=numeric,
        checks=tuple(each for each in found if isinstance(each, Check)),
        not_checked=tuple(each for each in found if isinstance(each, NotChecked)),
    )
