"""Records of single decisions, read for a report: which images are decided otherwise, and which step lost the accuracy."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgedistill_deploy.records.values import (
    as_count,
    as_interval,
    as_list,
    as_mapping,
    as_share,
    as_text,
    maybe,
    record_of,
)
from edgedistill_deploy.statistics.quantiles import OpenInterval

MAX_PICTURE_BYTES = 64 << 10
MAX_PICTURES = 12  # of each model
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipRow:
    """An image that teacher and candidate decide differently; `picture` is a PNG as base64."""

    name: str
    label: str | None
    teacher: str
    teacher_probability: float
    candidate: str
    candidate_probability: float | None
    outcome: str
    picture: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipsRecord:
    """What a report shows of the flips of one model: their number, by outcome, and those that have a picture."""

    device: str
    runtime: str
    precision: str
    model_sha256: str
    sample_count: int
    flip_count: int
    outcomes: Mapping[str, int]
    rows: tuple[FlipRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRow:
    """One step from the teacher to a file; the teacher's own has no `source`."""

    precision: str
    source: str | None
    model_sha256: str | None
    labelled_count: int
    accuracy: float | None
    agreement: float | None
    loss: float | None
    interval: OpenInterval


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRecord:
    """The steps measured in one place."""

    device: str
    runtime: str
    steps: tuple[ChainRow, ...]


def parse_flips(text: str) -> FlipsRecord:
    """Read a record of kind "flips"."""
    record = record_of(text, "flips")
    flips = [as_mapping(each) for each in as_list(record["flips"])]
    pictured = [each for each in flips if each.get("thumbnail") is not None][:MAX_PICTURES]
    return FlipsRecord(
        device=as_text(record["device"]),
        runtime=as_text(record["runtime"]),
        precision=as_text(record["precision"]),
        model_sha256=as_text(record["model_sha256"]),
        sample_count=as_count(record["sample_count"]),
        flip_count=as_count(record["flip_count"]),
        outcomes={name: as_count(count) for name, count in as_mapping(record["outcomes"]).items()},
        rows=tuple(_flip_row(each) for each in pictured),
    )


def _flip_row(flip: Mapping[str, Any]) -> FlipRow:
    return FlipRow(
        name=as_text(flip["name"]),
        label=None if flip["label"] is None else as_text(flip["label"]),
        teacher=as_text(flip["teacher"]),
        teacher_probability=as_share(flip["teacher_probability"]),
        candidate=as_text(flip["candidate"]),
        candidate_probability=maybe(flip["candidate_probability"], as_share),
        outcome=as_text(flip["outcome"]),
        picture=_picture(as_text(flip["thumbnail"])),
    )


def _picture(text: str) -> str:
    """Accept a PNG of bounded size as base64 and nothing else: it is placed in the page as it is."""
    if len(text) > MAX_PICTURE_BYTES:
        raise ValueError(f"a picture has more than {MAX_PICTURE_BYTES} characters")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a picture is not base64") from error
    if not content.startswith(_PNG):
        raise ValueError("a picture is not a PNG")
    return text


def parse_chain(text: str) -> ChainRecord:
    """Read a record of kind "chain"."""
    record = record_of(text, "chain")
    return ChainRecord(
        device=as_text(record["device"]),
        runtime=as_text(record["runtime"]),
        steps=tuple(_chain_row(as_mapping(step)) for step in as_list(record["steps"])),
    )


def _chain_row(step: Mapping[str, Any]) -> ChainRow:
    return ChainRow(
        precision=as_text(step["precision"]),
        source=None if step["source"] is None else as_text(step["source"]),
        model_sha256=None if step["model_sha256"] is None else as_text(step["model_sha256"]),
        labelled_count=as_count(step["labelled_count"]),
        accuracy=maybe(step["accuracy"], as_share),
        agreement=maybe(step["agreement"], as_share),
        loss=maybe(step["loss"], as_share),
        interval=as_interval(step["interval"]),
    )
