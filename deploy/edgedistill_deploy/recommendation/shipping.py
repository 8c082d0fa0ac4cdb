"""May this expert be shipped? The answer in plain words, which the terminal and the report share.

It says which file, where, how good, what is wrong with it, which classes are the worst, and what to do next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import PRECISIONS
from edgedistill_deploy.recommendation._alternatives import counted_reports
from edgedistill_deploy.recommendation.choice import Choice
from edgedistill_deploy.recommendation.next_steps import Step, next_steps
from edgedistill_deploy.recommendation.summary import Conclusion, label_of
from edgedistill_deploy.records.classes import ClassParity
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.parity import ParityReport
from edgedistill_deploy.records.reading import LatencyRecord, Records
from edgedistill_deploy.statistics.paired import hold_share, non_inferiority

Tone = Literal["pass", "fail", "inconclusive", ""]

_MOST_PLACES = 5
_MOST_PROBLEMS = 12
_MOST_WORST = 3
_FEW_IMAGES = 100
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstClass:
    """A class that loses most: the expert's and the teacher's share of right answers on its `count` images."""

    name: str
    share: float | None
    teacher: float | None
    count: int

    def __str__(self) -> str:
        against = "" if self.teacher is None else f" where the teacher is right on {words.percent(self.teacher)}"
        return f"{self.name}: {words.percent(self.share)} of {words.whole(self.count)} images{against}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipping:
    """The answer with its parts. `report` is that on the expert that the parts are about, None if none was checked.

    `tone` is the verdict that colours the answer. `file` is the model file to ship, None if there is none.
    """

    answer: str
    tone: Tone
    file: str | None
    file_bytes: int | None
    places: tuple[str, ...]
    quality: str
    problems: tuple[str, ...]
    worst: tuple[WorstClass, ...]
    steps: tuple[Step, ...]
    report: ParityReport | None

    def lines(self) -> Iterator[str]:
        """Yield the answer as lines for a terminal."""
        yield f"May I ship it? {self.answer}"
        yield from (f"  - {each}" for each in self.problems)
        if self.worst:
            yield f"Worst classes: {'; '.join(map(str, self.worst))}"
        for number, step in enumerate(self.steps, start=1):
            yield f"{number}. {step.sentence}" + (f"  {step.command}" if step.command else "")


def judge_shipping(bundle: Bundle, records: Records, conclusion: Conclusion, address: str | None = None) -> Shipping:
    """Return the answer on a bundle, from its records and from what `summary.conclude` makes of them.

    Commands name the bundle by its `address`, by default by the name of its folder.
    """
    reports = sorted(
        (each.report for each in records.parity if not each.report.model.is_teacher),
        key=lambda each: (
            PRECISIONS.index(each.model.precision) if each.model.precision in PRECISIONS else len(PRECISIONS)
        ),
    )
    chosen = _chosen(conclusion, reports)
    counted = counted_reports(reports)
    shown = chosen or next((each for each in counted if each.verdict == conclusion.verdict), None)
    answer, tone = _answer(conclusion, chosen)
    file = _file_of(bundle, chosen.model) if chosen else None
    return Shipping(
        answer=answer,
        tone=tone,
        file=file,
        file_bytes=conclusion.choice.file_bytes if conclusion.choice else None,
        places=_places(bundle, conclusion.choices, records.latency),
        quality=_quality(shown) if shown else "",
        problems=tuple(_problems(bundle, records, reports, chosen))[:_MOST_PROBLEMS],
        worst=worst_classes(shown) if shown else (),
        steps=next_steps(bundle, records, chosen, address or bundle.name),
        report=shown,
    )


def worst_classes(report: ParityReport, most: int = _MOST_WORST) -> tuple[WorstClass, ...]:
    """Return the classes that lose most against the teacher, of equal ones those with the fewest right answers.

    A class that loses nothing is named only if some of its images are wrong and no class loses.
    """
    known = sorted((row for row in report.classes.per_class if row.shown_share is not None), key=_badness)
    losing = [row for row in known if (row.shown_loss or 0.0) > 0]
    return tuple(
        WorstClass(name=row.name, share=row.shown_share, teacher=row.teacher, count=row.shown_count)
        for row in (losing or [row for row in known if (row.shown_share or 0.0) < 1])[:most]
    )


def _badness(row: ClassParity) -> tuple[float, float]:
    return -(row.shown_loss or 0.0), row.shown_share or 0.0


def _chosen(conclusion: Conclusion, reports: Sequence[ParityReport]) -> ParityReport | None:
    choice = conclusion.choice
    if choice is None:
        return None
    same = [each for each in reports if (each.model.precision, each.model.place) == (choice.precision, choice.place)]
    return next(iter(same), None)


def _answer(conclusion: Conclusion, chosen: ParityReport | None) -> tuple[str, Tone]:
    verdict = conclusion.verdict
    if verdict is None:
        return "Not known: nothing was compared with the teacher yet.", ""
    if chosen is None:
        return ("No.", "fail") if verdict == "fail" else ("Not yet: there are too few images to tell.", "inconclusive")
    if verdict == "pass":
        return "Yes.", "pass"
    others = "the others fail" if verdict == "fail" else "the others need more images"
    return f"Yes, but only this file; {others}.", "inconclusive"


def _file_of(bundle: Bundle, model: MeasuredModel) -> str:
    """Return the path of a measured file in the bundle; the model's name if it is not there."""
    entries = bundle.manifest["files"].values()
    found = (str(each["path"]) for each in entries if each["sha256"] == model.model_sha256)
    return next(found, label_of(model.precision))


def _places(bundle: Bundle, choices: Sequence[Choice], latency: Sequence[LatencyRecord]) -> tuple[str, ...]:
    """Name the devices with the file to ship on each, and how fast it is there."""
    if choices and all(each.model is None for each in choices):
        tried = words.join_words([each.device for each in choices[:_MOST_PLACES]])
        more = f" and {len(choices) - _MOST_PLACES} more" if len(choices) > _MOST_PLACES else ""
        return (f"nowhere yet; it was tried on {tried}{more}",)
    told = [_place(bundle, each) for each in choices]
    if len(told) > _MOST_PLACES:
        return (*told[:_MOST_PLACES], f"and {len(told) - _MOST_PLACES} more devices, which the summary lists")
    return tuple(told)


def _place(bundle: Bundle, choice: Choice) -> str:
    if choice.model is None:
        return f"{choice.device}: none of the files"
    file = f"{choice.device}: {_file_of(bundle, choice.model)}{_with_provider(choice.model)}"
    if choice.p50_ms is None:
        return f"{file}, not timed there"
    images = "an image" if choice.batch_size in (1, None) else f"{choice.batch_size} images"
    return f"{file}, half of its answers take at most {words.milliseconds(choice.p50_ms)} for {images}"


def _quality(report: ParityReport) -> str:
    accuracy, count = report.accuracy, words.whole(report.images.sample_count)
    if not accuracy.labelled_count:
        return (
            f"It answers as the teacher does on {words.percent(report.likeness.agreement)} of {count} test images, "
            "none of which has a label."
        )
    return (
        f"It is right on {words.percent(accuracy.candidate)} of {words.whole(accuracy.labelled_count)} test images, "
        f"and the teacher on {words.percent(accuracy.teacher)}."
    )


def _problems(
    bundle: Bundle, records: Records, reports: Sequence[ParityReport], chosen: ParityReport | None
) -> Iterator[str]:
    """Yield what is wrong, the worst first: files that fail, classes, doubts about the figures, what is not known."""
    for verdict in ("fail", "inconclusive"):
        yield from _once_a_file(bundle, [each for each in reports if each.verdict == verdict])
    for report in [chosen] if chosen else []:
        allowed = [each.name for each in report.judgement.class_findings or () if each.verdict == "pass"]
        if allowed:
            yield f"You allowed it to be bad at {_names(allowed)}."
        unchecked = dict.fromkeys(each.name.replace("_", " ") for each in report.soundness.not_checked)
        if unchecked:
            yield f"Not checked: {', '.join(unchecked)}."
    for report in reports[:1]:
        yield from _doubts(report)
    yield from (f"The teacher’s own file fails: {_first_reason(each)}" for each in _failed_teachers(records))
    if reports and not records.latency:
        yield "Its speed was not measured."
    if any(each.report.disturbance.warnings for each in records.latency):
        yield "Some of the times are doubtful, because the machine was not quiet."
    if records.problems:
        yield f"{len(records.problems)} records could not be used; the summary names them."


def _once_a_file(bundle: Bundle, reports: Sequence[ParityReport]) -> Iterator[str]:
    """Yield a sentence for each file, provider and problem, with the devices if there are several."""
    places: dict[str, list[str]] = {}
    for report in reports:
        file = f"{_file_of(bundle, report.model)}{_with_provider(report.model)}"
        places.setdefault(f"{file} {_shortfall(report)}", []).append(report.model.device)
    several = len({report.model.device for report in reports}) > 1
    for sentence, devices in places.items():
        where = f" (on {_names(list(dict.fromkeys(devices)))})" if several else ""
        yield f"{sentence}{where}."


def _with_provider(model: MeasuredModel) -> str:
    return "" if model.provider in ("cpu", model.runtime) else f" with {model.provider}"


def _shortfall(report: ParityReport) -> str:
    """Say in plain words why a model did not pass, as the end of a sentence."""
    judged = report.judgement
    verdict = judged.verdict
    if report.class_shortfall:
        return _class_shortfall(report)
    if any(not each.passed for each in report.soundness.tests):
        broken = next(each for each in report.soundness.tests if not each.passed)
        return f"does not compute what it should ({broken.name.replace('_', ' ')}: {broken.detail.rstrip('.')})"
    accuracy, limits = report.accuracy, judged.limits
    if accuracy.labelled_count and non_inferiority(accuracy.interval, limits.max_drop) == verdict:
        return _accuracy_shortfall(report)
    least = limits.agreement_limit(accuracy.labelled_count)
    if least is not None and hold_share(report.likeness.agreement_interval, least) == verdict:
        return (
            f"answers as the teacher does on {words.percent(report.likeness.agreement)} of the images, and "
            f"{words.percent(least)} are wanted{_needed(report)}"
        )
    return f"was not passed: {_first_reason(report).rstrip('.')}"


def _class_shortfall(report: ParityReport) -> str:
    judged = report.judgement
    if dead := judged.classes_with("fail", "dead"):
        return f"never gives the answer {_names(dead)}, which the teacher does give"
    if beyond := judged.classes_with("fail", "beyond_limit"):
        return f"loses more than you allow on {_names(beyond)}"
    return report.class_shortfall


def _accuracy_shortfall(report: ParityReport) -> str:
    accuracy, limit = report.accuracy, report.judgement.limits.max_drop
    loss = f"loses {words.bare_points(accuracy.drop or 0.0)} of 100 answers against the teacher"
    if (accuracy.drop or 0) <= 0:
        loss = "is as good as the teacher so far"
    if report.verdict == "fail":
        return f"{loss}, and you allow {words.bare_points(limit)}"
    return f"{loss}, but {words.whole(accuracy.labelled_count)} images are too few to be sure{_needed(report)}"


def _needed(report: ParityReport) -> str:
    needed = report.judgement.images_to_decide
    return "" if needed is None else f" (about {words.whole(needed)} would decide)"


def _doubts(report: ParityReport) -> Iterator[str]:
    count = report.images.sample_count
    if count < _FEW_IMAGES:
        yield f"Only {count} images were used to judge it, so these figures are rough."
    if not report.accuracy.labelled_count:
        yield "No test image has a label, so nobody knows how often teacher and expert are right."
    if report.images.unknown_count:
        yield f"{words.whole(report.images.unknown_count)} images were left out: the teacher was not asked about them."


def _failed_teachers(records: Records) -> list[ParityReport]:
    found = [each.report for each in records.parity if each.report.model.is_teacher]
    return [each for each in found if each.verdict == "fail"][:1]


def _first_reason(report: ParityReport) -> str:
    return next(iter(report.judgement.reasons), "no reason is recorded.")


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_SHOWN
    return words.join_words([*names[:_NAMES_SHOWN], *([f"{rest} more"] if rest > 0 else [])])
