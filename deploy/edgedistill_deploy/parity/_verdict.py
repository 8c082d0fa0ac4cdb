"""Turns the figures of a parity check into a verdict and the sentences that give its reasons."""

from dataclasses import replace

import numpy as np

from edgedistill_deploy.evaluation.figures import NOT_FINITE, Answers
from edgedistill_deploy.records.parity import Accuracy, Judgement, Numeric, ParityLimits, RelationResult, Soundness
from edgedistill_deploy.statistics.paired import (
    hold_share,
    images_to_bound,
    images_to_decide,
    non_inferiority,
    wilson_interval,
)
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict

_CHANGED = "the file or the record was changed, or the runtime computes another function"


def judge(accuracy: Accuracy, answers: Answers, limits: ParityLimits) -> Judgement:
    """Judge the accuracy and the agreement; an inconclusive verdict says how many images would decide."""
    if answers.candidate.shape[1] == 1:
        reason = "A subtask of one class has no accuracy that could drop."
        return Judgement(limits=limits, verdict="inconclusive", reasons=(reason,))
    least = limits.agreement_limit(accuracy.labelled_count)
    parts = [_judge_drop(accuracy, limits)] if accuracy.labelled_count else []
    parts += [] if least is None else [_judge_agreement(answers, limits, least)]
    return worst_judgement(*parts)


def worst_judgement(*judgements: Judgement) -> Judgement:
    """Return the worst verdict with all reasons, those of the worst first; of equal verdicts the first given is first.

    What `Judgement.class_findings` says is kept.
    """
    verdict = worst_verdict(each.verdict for each in judgements)
    ordered = sorted(judgements, key=lambda each: ("fail", "inconclusive", "pass").index(each.verdict))
    needed = [each.images_to_decide for each in judgements if each.verdict == "inconclusive"]
    known = [each for each in needed if each is not None]
    return Judgement(
        limits=judgements[0].limits,
        verdict=verdict,
        reasons=tuple(reason for each in ordered for reason in each.reasons),
        images_to_decide=max(known) if verdict == "inconclusive" and len(known) == len(needed) else None,
        class_findings=next((each.class_findings for each in judgements if each.class_findings is not None), None),
    )


def _judge_drop(accuracy: Accuracy, limits: ParityLimits) -> Judgement:
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


def _judge_agreement(answers: Answers, limits: ParityLimits, least: float) -> Judgement:
    """Hold the agreement against the least one; without any label nothing else can be judged."""
    agreeing, count = answers.agreeing_count, len(answers)
    interval = wilson_interval(agreeing, count, limits.confidence)
    verdict = hold_share(interval, least)
    place = {"pass": "above", "fail": "below", "inconclusive": "on both sides of"}[verdict]
    why = "" if answers.labelled.any() else "No label is known, so only the agreement with the teacher is judged. "
    reason = (
        f"{why}{100 * agreeing / count:.2f} % of {count} images are answered as the teacher does; the "
        f"{limits.confidence:.0%} interval, {100 * interval[0]:.2f} to {100 * interval[1]:.2f} %, lies {place} the "
        f"least agreement of {100 * least:.2f} %."
    )
    if verdict != "inconclusive":
        return Judgement(limits=limits, verdict=verdict, reasons=(reason,))
    return _judge_undecided(limits, reason, images_to_bound(agreeing, count, least, limits.confidence), "images")


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
    return [f"The logits differ from the student's recorded outputs by up to {excess}: {_CHANGED}."]


def unchecked_defects(soundness: Soundness, limits: ParityLimits) -> list[str]:
    """Say which checks were not made, where the limits are strict."""
    if not limits.strict:
        return []
    return [
        f"Check {each.name} was not made, and --strict asks for it. {each.detail}" for each in soundness.not_checked
    ]
