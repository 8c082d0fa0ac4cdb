"""The record of an explanation: whether teacher and expert look at the same parts of the images.

All figures are of validation images. An agreement of 1 is full, and its floors say which agreement means nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from edgedistill_deploy.records.schema import Record
from edgedistill_deploy.records.values import as_list, as_mapping, as_number, as_text

MOST_PICTURES = 12
_PICTURE = re.compile(r"explain/[a-z0-9-]{1,40}/[A-Za-z0-9-]{1,80}\.png")
_ROUNDING = 1e-6
_MOST_POINTS = 200  # of a curve
_MOST_SENTENCES = 20
_LONGEST = 500  # characters of a sentence

Answer = Literal["yes", "partly", "no"]


def as_picture_file(value: Any) -> str:
    """Accept the path of a PNG in the folder of a method; no other path, because the page shows what lies there."""
    text = as_text(value)
    if not _PICTURE.fullmatch(text):
        raise ValueError("a picture does not lie in explain/METHOD")
    return text


def as_agreement(value: Any) -> float:
    """Accept a number from -1 to 1; what rounding leaves beyond is cut."""
    number = as_number(value)
    if not abs(number) <= 1 + _ROUNDING:
        raise ValueError(f"{number} stands where an agreement from -1 to 1 belongs")
    return min(1.0, max(-1.0, number))


def as_agreements(value: Any) -> tuple[float, float]:
    """Accept an interval of them."""
    low, high = map(as_agreement, as_list(value))
    if low > high:
        raise ValueError(f"an interval from {low} to {high} is empty")
    return low, high


def as_curve(value: Any) -> tuple[float, ...]:
    """Accept some numbers."""
    points = tuple(map(as_number, as_list(value)))
    if not 2 <= len(points) <= _MOST_POINTS:
        raise ValueError(f"a curve has {len(points)} points")
    return points


def as_sentences(value: Any) -> tuple[str, ...]:
    """Accept a few texts; longer ones are cut."""
    return tuple(as_text(each)[:_LONGEST] for each in as_list(value)[:_MOST_SENTENCES])


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A mean over images, from -1 to 1, with its interval."""

    mean: Annotated[float, as_agreement]
    interval: Annotated[tuple[float, float], as_agreements]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How alike two maps are: their cosine, the correlation of their ranks, and what their top tenths share."""

    cosine: Measured
    spearman: Measured
    top_decile: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAgreement:
    """The same of the images in which the teacher sees one class."""

    cosine: Measured
    spearman: Measured
    top_decile: Measured
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Areas:
    """The area under a network's flipping curves by the order of the patches; a low one finds what counts."""

    teacher_order: float
    student_order: float
    random_order: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The evidence that is left of a network's, as a part of what it had, at each share of patches taken out."""

    teacher_order: Annotated[tuple[float, ...], as_curve]
    student_order: Annotated[tuple[float, ...], as_curve]
    random_order: Annotated[tuple[float, ...], as_curve]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flipping:
    """What taking out patches costs either network; one whose evidence could not be read is None or left out."""

    shares: Annotated[tuple[float, ...], as_curve]
    curves: Mapping[str, Curves]
    teacher_model: Areas | None = None
    student_model: Areas | None = None

    def __post_init__(self) -> None:
        count = len(self.shares)
        for each in self.curves.values():
            if {len(each.teacher_order), len(each.student_order), len(each.random_order)} != {count}:
                raise ValueError(f"a curve has not a value for each of {count} shares")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonPicture:
    """An image with the maps of teacher and expert beside it, and how alike these are."""

    file: str
    class_name: str
    cosine: float


def as_pictures(value: Any) -> tuple[ReasonPicture, ...]:
    """Accept the first dozen pictures."""
    found = map(as_mapping, as_list(value)[:MOST_PICTURES])
    return tuple(
        ReasonPicture(
            file=as_picture_file(each["file"]), class_name=as_text(each["class"]), cosine=as_agreement(each["cosine"])
        )
        for each in found
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationReport(Record):
    """The agreement of reasons by one method of attribution. `same_reasons` is None in a record without an answer."""

    KIND = "explanation"

    method: str
    images: int
    split: str
    agreement: Agreement
    floors: Mapping[str, Agreement]
    per_class: Mapping[str, ClassAgreement]
    flipping: Flipping
    pictures: Annotated[tuple[ReasonPicture, ...], as_pictures] = ()
    left_out: Annotated[tuple[str, ...], as_sentences] = ()
    sentences: Annotated[tuple[str, ...], as_sentences] = ()
    same_reasons: Answer | None = None
