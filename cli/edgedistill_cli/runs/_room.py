"""How much room a run takes on the disk, estimated before anything is loaded."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill.config import read_view_count
from edgedistill.data.splits import TEST_FRACTION, VALIDATION_FRACTION
from edgedistill.models.names import FOLDER, split_teacher_name
from edgedistill.models.student_names import PREFIX, is_shrunk, plain_widths, shrunk_share
from edgedistill.models.teacher_files import teacher_folder
from edgedistill.models.timm_list import find_listed
from edgedistill_cli.settings import AUTO_ASSISTANT, RunSettings, StudentSettings, TeacherSettings
from edgedistill_deploy.errors import EdgeDistillError, NotWrittenError
from edgedistill_deploy.wording import size as size_in_words

_FLOAT = 4  # bytes of a number in single precision
# Files of the student's weights: student.safetensors, FP32, FP16, and INT8 three times at a quarter.
_STUDENT_FILES = 1 + 1 + 0.5 + 3 * 0.25
# A checkpoint holds the weights, the two moments of AdamW and the best weights; the next is written beside the last.
_CHECKPOINT = 2 * (1 + 2 + 1)
_AVERAGE = 2 * 1  # and the moving average

Counts = Mapping[str, Mapping[str, int]]  # {split: {class: images}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """The estimate: bytes for each part that can be told, what the folder holds of them already, and what is free."""

    parts: Mapping[str, int]
    held_bytes: int
    free_bytes: int

    @property
    def needed_bytes(self) -> int:
        """The bytes that are still to be written."""
        return max(0, sum(self.parts.values()) - self.held_bytes)

    def describe(self) -> str:
        """Return the numbers in words."""
        parts = ", ".join(f"{name} {size_in_words(size)}" for name, size in self.parts.items() if size)
        detail = f" ({parts})" if parts else ""
        needed, free = size_in_words(self.needed_bytes), size_in_words(self.free_bytes)
        return f"about {needed} needed{detail}, {free} free"

    def to_json(self) -> dict[str, Any]:
        """Return the numbers for a record."""
        return {
            "parts_bytes": dict(self.parts),
            "needed_bytes": self.needed_bytes,
            "held_bytes": self.held_bytes,
            "free_bytes": self.free_bytes,
        }


def require_room(room: Room, folder: Path) -> None:
    """Raise NotWrittenError where a run needs more than is free."""
    if room.needed_bytes > room.free_bytes:
        raise NotWrittenError(
            f"There is too little room for the run in {folder}: {room.describe()}. Make room there, or choose a folder "
            "on another disk with --out."
        )


def estimate_room(
    settings: RunSettings, counts: Counts, stages: Sequence[str], folder: Path, *, rivals: bool = False
) -> Room:
    """Estimate what the stages write into the folder; what cannot be told before loading is left out.

    `rivals` are trained too, two of them.
    """
    sizes: dict[str, tuple[str, Callable[[], float]]] = {
        "checkpoints": ("distill", lambda: _checkpoint_bytes(settings)),
        "models": ("export", lambda: _model_bytes(settings)),
        "reference": ("export", lambda: _reference_bytes(settings, counts)),
        "teacher cache": ("distill", lambda: _cache_bytes(settings, counts)),
    }
    parts = {name: int(size()) if stage in stages else 0 for name, (stage, size) in sizes.items()}
    if "distill" in stages and settings.student.assistant not in (None, AUTO_ASSISTANT):
        between = settings.student.as_assistant(str(settings.student.assistant))
        parts["assistant"] = int(_checkpoint_bytes(replace(settings, student=between)))
    return Room(
        parts=parts | ({"rivals": int(2 * _checkpoint_bytes(settings))} if rivals else {}),
        held_bytes=sum(each.stat().st_size for each in folder.rglob("*") if each.is_file()) if folder.is_dir() else 0,
        free_bytes=shutil.disk_usage(_existing(folder)).free,
    )


def _existing(folder: Path) -> Path:
    return next(each for each in (folder, *folder.absolute().parents) if each.is_dir())


def _checkpoint_bytes(settings: RunSettings) -> float:
    copies = _CHECKPOINT + (_AVERAGE if settings.distill.ema else 0)
    return _FLOAT * copies * _student_parameters(settings)


def _model_bytes(settings: RunSettings) -> float:
    # A student that timm can build is also written as timm keeps its models.
    files = _STUDENT_FILES + (1 if settings.student.name.startswith("timm:") else 0)
    return _FLOAT * files * _student_parameters(settings) + _teacher_bytes(settings.teacher)


def _reference_bytes(settings: RunSettings, counts: Counts) -> float:
    return min(_count_evaluation(counts) * _image_bytes(settings), settings.export.reference_megabytes * 1e6)


def _cache_bytes(settings: RunSettings, counts: Counts) -> float:
    """Return the bytes of the views that were asked for by number; `auto` keeps what fits."""
    views = min(read_view_count(settings.distill.teacher_cache) or 0, settings.distill.epoch_count)
    return views * _count_training(counts) * _image_bytes(settings)


def _student_parameters(settings: RunSettings) -> float:
    student = settings.student
    if is_shrunk(student.name):
        return _or_zero(lambda: shrunk_share(student.name) ** 2 * _teacher_bytes(settings.teacher) / _FLOAT)
    if student.name.startswith(PREFIX):
        return _or_zero(lambda: _plain_parameters(student))
    listed = find_listed(student.name.removeprefix("timm:"))
    return 0 if listed is None else listed.parameters * student.width**2


def _plain_parameters(student: StudentSettings) -> float:
    widths = [each * student.width for each in plain_widths(student.name)[0]]
    return sum(9 * (before + own) * own for before, own in zip((3, *widths[:-1]), widths, strict=True))


def _teacher_bytes(teacher: TeacherSettings) -> float:
    """Return the size of the teacher's weights in single precision; 0 if it is known only once they are loaded."""
    kind, rest = split_teacher_name(teacher.name)
    if kind == "timm":
        listed = find_listed(rest)
        return 0 if listed is None else _FLOAT * listed.parameters
    if kind not in ("embedded", FOLDER):
        return 0
    return _or_zero(lambda: (teacher_folder(kind, rest) / "model.safetensors").stat().st_size)


def _or_zero(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except (OSError, EdgeDistillError):  # a wrong name is another problem
        return 0


def _image_bytes(settings: RunSettings) -> int:
    """Return the bytes of an image at the teacher's size; 0 if that is known only once the teacher is loaded."""
    kind, rest = split_teacher_name(settings.teacher.name)
    listed = find_listed(rest) if kind == "timm" else None
    side = settings.data.image_size or (listed.size if listed is not None else 0)
    return 3 * side * side


def _count_training(counts: Counts) -> float:
    kept = 1.0 if "validation" in counts else 1 - VALIDATION_FRACTION
    return _total(counts, "training") * (kept if {"validation", "test"} & set(counts) else kept * (1 - TEST_FRACTION))


def _count_evaluation(counts: Counts) -> float:
    split = next((each for each in ("test", "validation") if each in counts), None)
    return _total(counts, "training") * TEST_FRACTION if split is None else _total(counts, split)


def _total(counts: Counts, split: str) -> int:
    return sum(counts.get(split, {}).values())
