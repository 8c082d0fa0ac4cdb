"""Which pictures the page shows: a few images with both models' answers, and images decided differently.

A report is sent to people, so it can be written without pictures, and never has many.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgedistill_deploy.records.answers import AnswersReport, media_type_of
from edgedistill_deploy.records.decisions import INLINED, FlipReport
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.reading import Records
from edgedistill_deploy.wording import percent

_MOST_FLIP_RECORDS = 3
Agreement = Literal["same", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture as a data address, what it is called, and lines about it; without a picture `source` is ""."""

    source: str
    name: str
    label: str
    teacher: str
    expert: str
    agreement: Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipView:
    """The images that one expert decides differently: how many, of what kinds, and the first of them."""

    model: MeasuredModel
    count: int
    of: int
    outcomes: tuple[tuple[str, int], ...]
    pictures: tuple[Picture, ...]


def without_pictures(records: Records) -> Records:
    """Return the records without any picture."""
    return replace(
        records,
        answers=tuple(replace(each, examples=()) for each in records.answers),
        flips=tuple(
            replace(each, flips=tuple(replace(flip, thumbnail=None) for flip in each.flips)) for each in records.flips
        ),
        explanations=tuple(replace(each, pictures=()) for each in records.explanations),
    )


def answers_about(model: MeasuredModel, answers: Sequence[AnswersReport]) -> AnswersReport | None:
    """Return the record about a model; else one of the same precision, best with pictures; None if there is none."""
    same = [each for each in answers if each.model.precision == model.precision]
    exact = [each for each in same if each.model == model]
    return next(iter([*exact, *sorted(same, key=lambda each: not each.examples)]), None)


def example_pictures(answers: Iterable[AnswersReport]) -> tuple[Picture, ...]:
    """Return the pictures of the first record that has any."""
    found = next((each.pictured for each in answers if each.pictured), ())
    return tuple(
        Picture(
            source=_source(each.thumbnail),
            name=each.name,
            label=each.label or "unknown",
            teacher=_answer(each.teacher, each.teacher_probability),
            expert=_answer(each.candidate or "not finite", each.candidate_probability),
            agreement="same" if each.teacher == each.candidate else "other",
        )
        for each in found
    )


def flip_views(flips: Sequence[FlipReport], first: MeasuredModel | None) -> tuple[FlipView, ...]:
    """Return at most three records, that of the model `first` before the others, one for each precision."""
    ordered = sorted(flips, key=lambda each: (each.model != first, not each.pictured))
    once = {each.model.precision: each for each in reversed(ordered)}
    shown = [each for each in ordered if once[each.model.precision] is each]
    return tuple(_flip_view(each) for each in shown[:_MOST_FLIP_RECORDS])


def _flip_view(report: FlipReport) -> FlipView:
    return FlipView(
        model=report.model,
        count=report.flip_count,
        of=report.sample_count,
        outcomes=tuple((name.replace("_", " "), count) for name, count in report.outcomes.items() if count),
        pictures=tuple(
            Picture(
                source=_source(each.thumbnail),
                name=each.name,
                label=each.label or "unknown",
                teacher=_answer(each.teacher, each.teacher_probability),
                expert=_answer(each.candidate, each.candidate_probability),
                agreement="other",
            )
            for each in report.flips[:INLINED]
        ),
    )


def _answer(name: str, probability: float | None) -> str:
    return name if probability is None else f"{name}, {percent(probability)}".replace(" %", "\u00a0%")


def _source(thumbnail: str | None) -> str:
    return "" if thumbnail is None else f"data:{media_type_of(thumbnail)};base64,{thumbnail}"
