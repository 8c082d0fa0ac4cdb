"""Turns the figures of a parity check into a verdict and the sentences that give its reasons."""

from dataclasses import replace

import numpy as np

from edgedistill_deploy.evaluation.figures import NOT_FINITE, Answers
from edgedistill_deploy.records.parity import (
    Accuracy,
    ClassFigures,
    Judgement,
    Numeric,
    ParityLimits,
    RelationResult,
    Soundness,
)
from edgedistill_deploy.statistics.paired import images_to_bound, images_to_decide, non_inferiority, wilson_interval
from edgedistill_deploy.statistics.verdicts import Verdict

_CHANGED = "it was changed, or the runtime computes another function"


def judge(accuracy: Accuracy, answers: Answers, limits: ParityLimits) -> Judgement:
    """Judge the accuracy; an inconclusive verdict comes with the number of images that would decide."""
    if answers.candidate.shape[1] == 1:
        reason = "A subtask of one class has no accuracy that could drop."
        return Judgement(limits=limits, verdict="inconclusive", reasons=(reason,))
    if accuracy.labelled_count == 0:
        return _judge_without_labels(len(answers) - answers.agreeing_count, len(answers), limits)
    verdict = non_inferiority(accuracy.interval, limits.max_drop)
    reason = _drop_sentence(accuracy, limits.max_drop, verdict)
    if verdict != "inconclusive":
        return Judgement(limits=limits, verdict=verdict, reasons=(reason,))
    lost, gained, size = accuracy.lost_count, accuracy.gained_count, accuracy.labelled_count
    needed = images_to_decide(lost, gained, size, limits.max_drop, limits.confidence)
    return _judge_undecided(limits, reason, needed, "labelled images")


def with_defects(judgement: Judgement, defects: list[str]) -> Judgement:
    """Return a failed verdict if there are defects."""
    if not defects:
        return judgement
    return replace(judgement, verdict="fail", reasons=(*defects, *judgement.reasons), images_to_decide=None)


def _judge_undecided(limits: ParityLimits, reason: str, needed: int | None, what: str) -> Judgement:
    known = f"about {needed} {what} would decide" if needed is not None else "no number of images would decide"
    reasons = (reason, f"At the rates observed {known}.")
    return Judgement(limits=limits, verdict="inconclusive", reasons=reasons, images_to_decide=needed)


def _judge_without_labels(disagreeing: int, count: int, limits: ParityLimits) -> Judgement:
    """Judge by the disagreement, which bounds the drop from above: a candidate can pass by it, but not fail."""
    bound = wilson_interval(disagreeing, count, limits.confidence)[1]
    passed = bound < limits.max_drop
    comparison = "below" if passed else "not below"
    reason = (
        f"No label is known, so only the disagreement with the teacher was bounded: at most {bound:.2%} of the images, "
        f"{comparison} the {limits.max_drop:.2%} allowed for the drop."
    )
    if passed:
        return Judgement(limits=limits, verdict="pass", reasons=(reason,))
    needed = images_to_bound(disagreeing, count, limits.max_drop, limits.confidence)
    return _judge_undecided(limits, reason, needed, "images")


def _drop_sentence(accuracy: Accuracy, max_drop: float, verdict: Verdict) -> str:
    place = {"pass": "below", "fail": "above", "inconclusive": "on both sides of"}[verdict]
    drop, (low, high) = accuracy.drop or 0.0, accuracy.interval
    return (
        f"The accuracy {'rises' if drop < 0 else 'drops'} by {100 * abs(drop):.2f} points on {accuracy.labelled_count} "
        f"images; the {accuracy.confidence:.0%} interval of the drop, {100 * low:.2f} to {100 * high:.2f} points, lies "
        f"{place} the limit of {100 * max_drop:.2f}."
    )


def defects_of(answers: Answers, soundness: Soundness) -> list[str]:
    """Say what makes the model unfit at any accuracy: bad numbers, and checks and relations that do not hold."""
    broken = int(np.sum(answers.predicted == NOT_FINITE))
    defects = [f"{broken} of {len(answers)} images gave logits that are not finite."] if broken else []
    defects += _numeric_defects(soundness.numeric)
    defects += [
        f"{'Relation' if isinstance(item, RelationResult) else 'Check'} {item.name} does not hold. {item.detail}"
        for item in (*soundness.checks, *soundness.metamorphic)
        if not item.passed
    ]
    return defects


def _numeric_defects(numeric: Numeric) -> list[str]:
    if numeric.image_count and numeric.max_abs_error is None:
        return ["The recorded inputs gave logits that are not finite, or of another shape than recorded."]
    if numeric.max_abs_error is None or numeric.tolerance is None or numeric.max_abs_error <= numeric.tolerance:
        return []
    excess = f"{numeric.max_abs_error:.3g}, more than {numeric.tolerance:.3g}"
    if numeric.recorded_of == "file":
        return [f"The logits differ by up to {excess} from those of this file when it was made: {_CHANGED}."]
    start = f"The logits differ from the student's recorded outputs by up to {excess}"
    return [f"{start}: the runtime computes another function."]


def unchecked_defects(soundness: Soundness, limits: ParityLimits) -> list[str]:
    """Say which checks were not made, where the limits are strict."""
    if not limits.strict:
        return []
    return [
        f"Check {each.name} was not made, and --strict asks for it. {each.detail}" for each in soundness.not_checked
    ]


def worse_classes_sentence(classes: ClassFigures) -> tuple[str, ...]:
    """Name the classes that lost significantly, the worst first; no sentence if there is none."""
    worse = [(row.drop or 0.0, row.name) for row in classes.per_class if row.significantly_worse]
    worse.sort(key=lambda each: each[0], reverse=True)
    if not worse:
        return ()
    listed = ", ".join(f"{name!r} ({100 * drop:.1f} points)" for drop, name in worse[:10])
    rest = f" and {len(worse) - 10} more" if len(worse) > 10 else ""
    count = classes.class_statistics.tested_count
    return (f"Significantly worse than the teacher, after Holm's correction for {count} classes: {listed}{rest}.",)
