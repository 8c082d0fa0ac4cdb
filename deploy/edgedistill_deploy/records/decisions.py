"""Records of single decisions: the images that two models decide differently, and the step that lost the accuracy."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.records.answers import as_picture
from edgedistill_deploy.records.model import MeasuredModel
from edgedistill_deploy.records.schema import Record, Share, Shares
from edgedistill_deploy.records.writing import FLAT, HIDDEN

RANKED_BY = "candidate_probability"
INLINED = 12  # pictures in the record, for the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """One image that the two models decide differently. Classes are names, probabilities are softmax outputs.

    `outcome` is "lost" when only the teacher is right, "gained" when only the candidate is, "both_wrong", or
    "unlabelled". `file` is the picture's path, `thumbnail` a small PNG or JPEG as base64.
    """

    rank: int
    name: str
    digest: str
    label: str | None
    teacher: str
    teacher_probability: Share
    candidate: str
    candidate_probability: Share | None
    outcome: str
    file: str | None = None
    thumbnail: Annotated[str, as_picture] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipReport(Record):
    """The flips of one model, at most the first thousand. The record leaves `pictures` out."""

    KIND = "flips"

    bundle: str
    model: MeasuredModel = field(metadata=FLAT)
    sample_count: int
    flip_count: int
    outcomes: Mapping[str, int]
    flips: tuple[Flip, ...]
    ranked_by: str = RANKED_BY
    pictures: tuple[NDArray[np.uint8], ...] = field(default=(), repr=False, compare=False, metadata=HIDDEN)

    @property
    def pictured(self) -> tuple[Flip, ...]:
        """The first flips that have a picture for the page."""
        return tuple(each for each in self.flips if each.thumbnail is not None)[:INLINED]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStep:
    """One model and what it lost against its `source`. The teacher is the first step and has no source.

    `accuracy` is the share of labelled images that are right. `loss` is the source's accuracy minus this one, and
    `interval` is that of the loss. Only the source is right on `lost_count` images, only this model on `gained_count`.
    `agreement` is the share of all images that both answer alike. Fields are None without a source, or without labels.
    """

    precision: str
    source: str | None
    sample_count: int
    labelled_count: int
    accuracy: Share | None
    agreement: Share | None
    agreement_interval: Shares | None
    loss: Share | None
    interval: Shares | None
    lost_count: int | None
    gained_count: int | None
    confidence: Share
    model_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord(Record):
    """The loss of each step from the teacher to each of its files, on one device."""

    KIND = "chain"

    bundle: str
    device: str
    runtime: str
    provider: str
    steps: tuple[ChainStep, ...]
