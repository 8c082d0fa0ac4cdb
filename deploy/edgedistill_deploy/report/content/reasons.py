"""Whether the expert looks at the same things as its teacher: what `explain` recorded, as the page says it."""

import base64
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.decode import read_image
from edgedistill_deploy.records.explanation import (
    Agreement,
    Areas,
    ClassAgreement,
    Curves,
    ExplanationReport,
    ReasonPicture,
)

_MOST_METHODS = 3
_MOST_CLASSES = 60
_LARGEST_FILE = 1 << 20  # bytes of a picture
_LARGEST_SIDE = 4096  # pixels, before it is made smaller
_SIDE = 560  # pixels, of three tiles side by side
_QUALITY = 80
_MOST_BYTES = 500_000  # of all pictures, so that the page can be sent
_PNG = b"\x89PNG\r\n\x1a\n"
_ANSWERS = {
    "yes": "Yes: their reasons agree far more than chance would have it.",
    "partly": "Partly: their reasons agree more than chance would have it, but far from fully.",
    "no": "Not shown: these images do not tell their agreement from that with another class or a random student.",
}
_FLOORS = {
    "other_class": "floor: the teacher, for another class",
    "random_student": "floor: students of random weights",
    "labels": "the same student, trained on labels alone",
}
_MODELS = {"teacher_model": "teacher", "student_model": "expert"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An agreement with its name; `is_expert` is False for what it is held against."""

    name: str
    agreement: Agreement
    is_expert: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Flipped:
    """What is left of one network's evidence while patches are taken out: its areas and curves."""

    network: str
    areas: Areas
    shares: tuple[float, ...]
    curves: Curves


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonImage:
    """A picture of maps as a data address, with the class and the cosine."""

    source: str
    class_name: str
    cosine: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """What one method of attribution found; `unread_count` pictures could not be shown."""

    report: ExplanationReport
    answer: str
    rows: tuple[Row, ...]
    classes: tuple[tuple[str, ClassAgreement], ...]
    flipped: tuple[Flipped, ...]
    pictures: tuple[ReasonImage, ...]
    unread_count: int


def reasons_of(bundle: Bundle, reports: Sequence[ExplanationReport]) -> tuple[Reasons, ...]:
    """Return what the page shows of at most three methods; all pictures together stay small."""
    room, found = _MOST_BYTES, []
    for report in reports[:_MOST_METHODS]:
        images = [_image(bundle.path, each) for each in report.pictures]
        shown: list[ReasonImage] = []
        for image in images:
            if image is not None and len(image.source) <= room:
                shown.append(image)
                room -= len(image.source)
        found.append(_reasons(report, tuple(shown), sum(each is None for each in images)))
    return tuple(found)


def _reasons(report: ExplanationReport, pictures: tuple[ReasonImage, ...], unread_count: int) -> Reasons:
    floors = [Row(name=_FLOORS[name], agreement=each) for name, each in report.floors.items() if name in _FLOORS]
    worst_first = sorted(report.per_class.items(), key=lambda each: each[1].cosine.mean)
    return Reasons(
        report=report,
        answer=_ANSWERS.get(report.same_reasons or "", ""),
        rows=(Row(name="expert and teacher", agreement=report.agreement, is_expert=True), *floors),
        classes=tuple(worst_first[:_MOST_CLASSES]),
        flipped=_flipped(report),
        pictures=pictures,
        unread_count=unread_count,
    )


def _flipped(report: ExplanationReport) -> tuple[Flipped, ...]:
    flipping = report.flipping
    networks = {"teacher_model": flipping.teacher_model, "student_model": flipping.student_model}
    return tuple(
        Flipped(network=_MODELS[name], areas=areas, shares=flipping.shares, curves=flipping.curves[name])
        for name, areas in networks.items()
        if areas is not None and name in flipping.curves
    )


def _image(folder: Path, picture: ReasonPicture) -> ReasonImage | None:
    """Read a picture and make it small; None where it is no PNG of a bounded size inside the bundle."""
    path = folder / picture.file
    try:
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            return None
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE or not _has_sane_header(content):
            return None
        image = read_image(content, picture.file)
    except (OSError, RuntimeError, DataError):
        return None
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    image.save(small, "JPEG", quality=_QUALITY, optimize=True)
    source = f"data:image/jpeg;base64,{base64.b64encode(small.getvalue()).decode('ascii')}"
    return ReasonImage(source=source, class_name=picture.class_name, cosine=picture.cosine)


def _has_sane_header(content: bytes) -> bool:
    """Return whether this is a PNG whose sides, which stand in its header, are bounded."""
    if not content.startswith(_PNG) or len(content) < 24:
        return False
    return all(1 <= side <= _LARGEST_SIDE for side in struct.unpack(">II", content[16:24]))
