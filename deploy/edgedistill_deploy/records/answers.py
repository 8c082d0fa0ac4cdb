"""The record of a model's answers: what it confuses, what its probabilities are worth, and a few pictures.

It stands beside the parity record of the same model. Both models are counted on the same images.
"""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.schema import Record, Share
from edgedistill_deploy.records.values import as_text
from edgedistill_deploy.records.writing import FLAT

MOST_EXAMPLES = 12  # pictures, for the page
MAX_PICTURE_BYTES = 64 << 10
_MEDIA = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}

Truth = Literal["label", "teacher"]


def as_picture(value: Any) -> str:
    """Accept only a PNG or a JPEG of bounded size as base64, because the page takes it unchanged."""
    text = as_text(value)
    if len(text) > MAX_PICTURE_BYTES:
        raise ValueError(f"a picture has more than {MAX_PICTURE_BYTES} characters")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a picture is not base64") from error
    if not content.startswith(tuple(_MEDIA)):
        raise ValueError("a picture is not a PNG or a JPEG")
    return text


def media_type_of(picture: str) -> str:
    """Return the media type of an accepted picture."""
    start = base64.b64decode(picture[:16])
    return next(kind for magic, kind in _MEDIA.items() if start.startswith(magic))


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One image with both models' answers. Classes are names, and probabilities are softmax outputs.

    `label` is None where it is unknown. `candidate` is None where a logit is not finite. `thumbnail` is a small PNG or
    JPEG as base64, None where no picture is kept.
    """

    name: str
    digest: str
    label: str | None
    teacher: str
    teacher_probability: Share
    candidate: str | None
    candidate_probability: Share | None
    thumbnail: Annotated[str, as_picture] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Counts of answers (C, C): a row for each true class, a column for each answer, in the order of `class_names`.

    An answer that is not finite is in no column.
    """

    class_names: tuple[str, ...]
    teacher: tuple[tuple[int, ...], ...]
    candidate: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.class_names)
        for counts in (self.teacher, self.candidate):
            if len(counts) != size or any(len(row) != size for row in counts):
                raise ValueError(f"a confusion matrix is not one of {size} classes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusedPair:
    """How many of the `support` images of class `truth` each model takes for class `answer`."""

    truth: str
    answer: str
    support: int
    teacher_count: int
    candidate_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPoint:
    """What is left when only answers with at least this probability are given.

    `answered` is the share of the images that get an answer, `accuracy` the share of these answers that are right.
    """

    threshold: Share
    answered: Share
    accuracy: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """The images whose largest probability lies above `low` and not above `high`: their number, mean and accuracy."""

    low: Share
    high: Share
    count: int
    confidence: Share
    accuracy: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityFigures:
    """What one model's probabilities are worth; both are empty where the truth or a probability is unknown."""

    reject: tuple[RejectPoint, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersReport(Record):
    """A model's answers beside the teacher's.

    `truth` is what they are held against: the labels, or the teacher's answers where no image has a label.
    `judged_count` images have a truth. `confusion` is None for too many classes; then `pairs` has the most frequent
    confusions, as it always has.
    """

    KIND = "answers"

    bundle: str
    model: MeasuredModel = field(metadata=FLAT)
    sample_count: int
    judged_count: int
    truth: Truth
    confusion: Confusion | None
    pairs: tuple[ConfusedPair, ...]
    teacher: ProbabilityFigures
    candidate: ProbabilityFigures
    examples: tuple[Example, ...] = ()

    @property
    def pictured(self) -> tuple[Example, ...]:
        """The first examples that have a picture for the page."""
        return tuple(each for each in self.examples if each.thumbnail is not None)[:MOST_EXAMPLES]
