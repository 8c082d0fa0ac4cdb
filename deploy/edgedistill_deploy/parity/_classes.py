"""Judges each class: one that is dead, or that loses more than is allowed, is named, and fails the model."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.evaluation.figures import Answers
from edgedistill_deploy.records.classes import ClassFigures, ClassFinding, ClassParity, ClassStatistics
from edgedistill_deploy.records.parity import Judgement, NotChecked, ParityLimits
from edgedistill_deploy.statistics.paired import images_to_decide, images_to_show_loss, non_inferiority
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict

_MOST_NAMED = 10
_VERBS: dict[tuple[str, Verdict], tuple[str, str]] = {
    ("dead", "fail"): ("is dead", "are dead"),
    ("dead", "inconclusive"): ("may be dead", "may be dead"),
    ("beyond_limit", "fail"): ("loses", "lose"),
    ("beyond_limit", "inconclusive"): ("may lose", "may lose"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A finding in its parts; `verdict` is that without allowances, `needed` counts images of this class."""

    row: ClassParity
    fault: Literal["dead", "beyond_limit"]
    verdict: Verdict
    figures: str
    needed: int | None
    allowed: bool

    @property
    def kind(self) -> tuple[bool, Verdict, str]:
        """What the findings of one sentence have in common."""
        return self.allowed, self.verdict, self.fault


def judge_classes(classes: ClassFigures, answers: Answers, limits: ParityLimits) -> Judgement:
    """Judge every class; the sentences about failing classes are the first.

    A class is dead if the model gets none of its images right (or, if no image of it has a label, never answers with
    it) and is significantly worse there than the teacher. If it is not significant, too few images tell. With
    `max_class_drop` the corrected interval of each class is held against it, as that of all images is against
    `max_drop`. A finding on an allowed class is told, and passes.

    Raises UsageError for an allowed class that there is not.
    """
    allowed = limits.allowed_among([row.name for row in classes.per_class])
    found = list(_find_all(classes, limits, allowed))
    findings = tuple(_as_finding(each, limits) for each in found)
    verdict = worst_verdict(each.verdict for each in findings)
    undecided = [each for each in found if each.verdict == "inconclusive" and not each.allowed]
    return Judgement(
        limits=limits,
        verdict=verdict,
        reasons=tuple(_sentences(found, limits)),
        images_to_decide=_needed_in_all(undecided, answers) if verdict == "inconclusive" else None,
        class_findings=findings,
    )


def class_notes(classes: ClassFigures, findings: Sequence[ClassFinding]) -> tuple[str, ...]:
    """Name the classes that lost significantly and are not dead or beyond the limit, and those that no model knows."""
    told = {each.name for each in findings if each.fault == "dead" or each.verdict != "inconclusive"}
    worse = [(row.drop or 0.0, row.name) for row in classes.per_class if row.significantly_worse]
    worse = sorted((each for each in worse if each[1] not in told), key=lambda each: each[0], reverse=True)
    notes = []
    if worse:
        listed = _list([f"{name!r} ({100 * drop:.1f} points)" for drop, name in worse])
        count = classes.class_statistics.tested_count
        notes.append(f"Significantly worse than the teacher, after Holm's correction for {count} classes: {listed}.")
    unknown = [row for row in classes.per_class if row.support and row.candidate == 0 and row.teacher == 0]
    if unknown:
        listed = _list([f"{row.name!r} ({row.support} images)" for row in unknown])
        notes.append(f"Neither the teacher nor the model gets an image of these classes right: {listed}.")
    return tuple(notes)


def unseen_classes(classes: ClassFigures, limits: ParityLimits) -> tuple[NotChecked, ...]:
    """Name the classes that no image tells about, and those without the labels that `max_class_drop` needs."""
    unseen = [repr(row.name) for row in classes.per_class if not row.support and row.unlabelled is None]
    unlabelled = [repr(row.name) for row in classes.per_class if row.unlabelled is not None]
    found = []
    if unseen:
        found.append(_not_checked("dead_classes", f"no image of {_list(unseen)} was compared"))
    if unlabelled and limits.max_class_drop is not None:
        found.append(_not_checked("class_drop", f"no image of {_list(unlabelled)} has a label"))
    return tuple(found)


def _not_checked(name: str, cause: str) -> NotChecked:
    return NotChecked(name=name, detail=f"Not checked, because {cause}.")


def _find_all(classes: ClassFigures, limits: ParityLimits, allowed: frozenset[str]) -> Iterator[_Found]:
    for row in classes.per_class:
        is_allowed = row.name in allowed
        if row.is_lost:
            yield _lost(row, classes.class_statistics, limits, is_allowed)
        elif row.support and limits.max_class_drop is not None:
            yield from _beyond(row, classes.class_statistics, limits.max_class_drop, is_allowed)


def _lost(row: ClassParity, statistics: ClassStatistics, limits: ParityLimits, allowed: bool) -> _Found:
    """Return the finding on a class of which all that the teacher can do is lost."""
    said = row.unlabelled
    lost, size = (row.lost_count, row.support) if said is None else (said.lost_count, said.teacher_count)
    surely = row.significantly_worse if said is None else said.significantly_rarer
    if said is None:
        never = "; never answered" if row.answer_count == 0 else ""
        figures = f"none of {size} images right, teacher {words.percent(row.teacher)}{never}"
    else:
        figures = f"never answered, where the teacher answers it on {size} images that have no label"
    return _Found(
        row=row,
        fault="dead",
        verdict="fail" if surely else "inconclusive",
        figures=figures,
        needed=None if surely else images_to_show_loss(lost, size, statistics.tested_count, limits.confidence),
        allowed=allowed,
    )


def _beyond(row: ClassParity, statistics: ClassStatistics, limit: float, allowed: bool) -> Iterator[_Found]:
    verdict, confidence = non_inferiority(row.interval, limit), statistics.interval_confidence
    if verdict == "pass":
        return
    needed = images_to_decide(row.lost_count, row.gained_count, row.support, limit, confidence)
    interval = words.points_interval(row.interval)
    yield _Found(
        row=row,
        fault="beyond_limit",
        verdict=verdict,
        figures=f"drop {words.points(row.drop)} on {row.support} images, interval {interval}",
        needed=needed if verdict == "inconclusive" else None,
        allowed=allowed,
    )


def _as_finding(found: _Found, limits: ParityLimits) -> ClassFinding:
    return ClassFinding(
        name=found.row.name,
        fault=found.fault,
        verdict="pass" if found.allowed else found.verdict,
        detail=_sentence([found], limits),
        images_to_decide=found.needed,
    )


def _sentences(found: Sequence[_Found], limits: ParityLimits) -> Iterator[str]:
    """Yield a sentence for each kind of finding: the failing classes, the undecided ones, the allowed ones."""
    kinds = {each.kind for each in found}
    for kind in sorted(kinds, key=lambda kind: (kind[0], kind[1] != "fail", kind[2] != "dead")):
        yield _sentence([each for each in found if each.kind == kind], limits)


def _sentence(found: Sequence[_Found], limits: ParityLimits) -> str:
    """Say what is wrong with classes that have a kind of finding in common."""
    first, several = found[0], len(found) > 1
    verb = _VERBS[first.fault, first.verdict][several]
    if first.fault == "beyond_limit":
        verb += f" more than the {words.bare_points(limits.max_class_drop or 0.0)} points allowed for a class"
    allowance = ", which is allowed" if first.allowed else ""
    listed = _list([f"{each.row.name!r} ({each.figures})" for each in found])
    subject = f"{len(found)} classes" if several else f"The class {first.row.name!r}"
    start = f"{subject} {verb}{allowance}: {listed if several else first.figures}."
    return f"{start} {_need(found)}" if first.verdict == "inconclusive" and not first.allowed else start


def _need(found: Sequence[_Found]) -> str:
    decidable = [f"{each.needed} images of {each.row.name!r}" for each in found if each.needed is not None]
    known = f"about {_list(decidable)}" if decidable else "no number of images"
    return f"At the rates observed {known} would decide."


def _needed_in_all(undecided: Iterable[_Found], answers: Answers) -> int | None:
    """Return how many images of all classes hold the needed ones of each class; None if no number does."""
    labelled = int(answers.labelled.sum())
    needed = []
    for each in undecided:
        said = each.row.unlabelled
        share = each.row.support / labelled if said is None else said.teacher_count / (len(answers) - labelled)
        needed.append(None if each.needed is None else math.ceil(each.needed / share))
    known = [each for each in needed if each is not None]
    return max(known) if len(known) == len(needed) else None


def _list(items: Sequence[str]) -> str:
    rest = len(items) - _MOST_NAMED
    return ", ".join(items[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
