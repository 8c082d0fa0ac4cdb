"""The settings of a run, with a table for each stage and each input."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from edgedistill.checks import check_choice, check_pairs
from edgedistill.config import DistillConfig
from edgedistill.export.config import ExportConfig
from edgedistill.models.names import START_FROM_NOTHING, START_UNSET
from edgedistill.models.student_names import CHANNEL_CHOICES, check_width, is_shrunk, split_width
from edgedistill_calibration import CalibrationConfig
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.preprocess import MAX_SIDE
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.parity.check import ParityLimits

# What `student.assistant` may be beside the name of one.
AUTO_ASSISTANT, NO_ASSISTANT = "auto", "none"
# What no settings file can give.
COMMAND_LINE_ONLY = {"teacher.allow_code": "--allow-code"}


def check_side(side: int) -> None:
    """Refuse a side of images that no image can have."""
    if not 1 <= side <= MAX_SIDE:
        raise UsageError(f"data.image_size is {side}; it must be a side from 1 to {MAX_SIDE} pixels, or 0.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """The source of the images, and what of them is used.

    Attributes:
        source: see `edgedistill.open_source`; "" where there are only images without labels.
        unlabelled: another source, of images without labels for training; None for none.
        image_size: their side in pixels; 0 takes the teacher's own size.
        max_bad: the largest share of pictures that may be unusable; None for the default of `split_for_subtask`.
    """

    source: str
    unlabelled: str | None = None
    image_size: int = 0
    max_bad: float | None = None

    def __post_init__(self) -> None:
        if self.image_size:
            check_side(self.image_size)
        if self.max_bad is not None and not 0 <= self.max_bad <= 1:
            raise UsageError(f"data.max_bad is {self.max_bad:g}; it must be a share from 0 to 1, such as 0.01 for 1 %.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """The teacher; see `edgedistill.load_teacher`.

    `beside` are further teachers, whose answers are weighed against this one's; None for none. `weights`, `classes` and
    `pixels` are of the first. `allow_code` comes from the command line alone: it is neither read from a file nor
    written to one, so that settings from elsewhere run no code.
    """

    name: str
    weights: str = ""
    classes: str = ""
    pixels: str | None = None
    beside: tuple[str, ...] | None = None
    allow_code: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "beside", self.beside or None)
        names = (self.name, *(self.beside or ()))
        if twice := next((name for place, name in enumerate(names) if name in names[:place]), ""):
            raise UsageError(f"The teacher {twice} is named twice; each --teacher is another one.")

    @property
    def others(self) -> "tuple[TeacherSettings, ...]":
        """The further teachers, each as the settings of one alone."""
        return tuple(TeacherSettings(name=name, allow_code=self.allow_code) for name in self.beside or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class SubtaskSettings:
    """The names of the classes, or the name of a subtask that `edgedistill subtasks` lists.

    A class made of several of the teacher's is written NAME=MEMBER|MEMBER. With `rest` there is one more class,
    "something else". None stands for no, so that settings of before this key are the same settings.
    """

    classes: tuple[str, ...] = ()
    name: str = ""
    rest: bool | None = None

    def __post_init__(self) -> None:
        if not self.classes and not self.name:
            raise UsageError(
                "No subtask was given; name its classes with --classes A,B,C, or a named subtask with --subtask."
            )
        object.__setattr__(self, "rest", self.rest or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings:
    """The student; see `edgedistill.build_student`. `pairs` are layers to match, each as TEACHER=STUDENT.

    `weights` are what it starts from: `auto`, `pretrained`, `none`, a file or a folder. None stands for settings that
    were written whole before there was this key: their students started from nothing, and still do. `channels` says by
    what those of a shrunk teacher are chosen; other students have None.

    `assistant` is a student in between, NAME or NAME@WIDTH, or `auto`, which chooses one; None for none.
    """

    name: str
    width: float = 1.0
    weights: str | None = "auto"
    channels: str | None = None
    pairs: tuple[str, ...] = ()
    assistant: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "assistant", None if self.assistant in ("", NO_ASSISTANT) else self.assistant)
        self._check_assistant()
        for pair, (teacher, student) in zip(self.pairs, self.layer_pairs, strict=True):
            if not (teacher and student) or "=" in student:
                raise UsageError(
                    f"A pair of layers is written TEACHER=STUDENT, such as layer3=stages.2, and {pair!r} was given."
                )
        check_pairs(self.layer_pairs)
        check_width(self.width)
        if is_shrunk(self.name):
            self._check_shrunk()
        elif self.channels is not None:
            raise UsageError(
                f"--student-channels {self.channels} says which channels of a shrunk teacher stay, and the student is "
                f"{self.name or 'not named'}; leave it out, or give --student teacher:0.5."
            )

    def _check_shrunk(self) -> None:
        if self.width != 1.0:
            raise UsageError(
                f"--student {self.name} has its width in its name, and --student-width {self.width:g} was given too; "
                "leave it out."
            )
        object.__setattr__(self, "channels", self.channels or CHANNEL_CHOICES[0])
        check_choice("student.channels", self.channels or "", CHANNEL_CHOICES)

    def _check_assistant(self) -> None:
        if self.assistant is None:
            return
        if self.assistant != AUTO_ASSISTANT:
            split_width(self.assistant)
        if self.pairs:
            raise UsageError(
                "The pairs of layers name the teacher's, and a student with an assistant is matched with the "
                "assistant's; give --pairs or --assistant."
            )

    def as_assistant(self, text: str) -> "StudentSettings":
        """Return the settings of an assistant NAME or NAME@WIDTH of this student, as of a student of its own.

        It starts from nothing where this student is told to, else as `auto` says.
        """
        name, width = split_width(text)
        from_nothing = self.weights in (None, START_FROM_NOTHING)
        return StudentSettings(name=name, width=width, weights=START_FROM_NOTHING if from_nothing else START_UNSET)

    @property
    def layer_pairs(self) -> list[tuple[str, str]]:
        """The pairs as (teacher's layer, student's layer)."""
        pairs = [pair.partition("=") for pair in self.pairs]
        return [(teacher.strip(), student.strip()) for teacher, _, student in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Everything that decides a run. When a table changes, the stages before it keep their results."""

    data: DataSettings
    teacher: TeacherSettings
    subtask: SubtaskSettings
    student: StudentSettings
    distill: DistillConfig = field(default_factory=DistillConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    calibrate: CalibrationConfig = field(default_factory=CalibrationConfig)
    validate: ParityLimits = field(default_factory=ParityLimits)
    profile: LatencyConfig = field(default_factory=LatencyConfig)

    def __post_init__(self) -> None:
        if self.subtask.rest and self.export.reject:
            raise UsageError(
                f"--rest and --reject {self.export.reject:g} were both given: with a class for everything else there "
                "is nothing left to reject. Give one of them."
            )

    def to_tables(self) -> dict[str, dict[str, Any]]:
        """Return plain tables for TOML; a key whose value is None, or that no file may give, is left out."""
        return {
            table: {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in values.items()
                if value is not None and f"{table}.{key}" not in COMMAND_LINE_ONLY
            }
            for table, values in asdict(self).items()
        }

    def key(self, *tables: str) -> str:
        """Return a hash of the named tables; equal settings give equal keys."""
        every = self.to_tables()
        chosen = {table: every[table] for table in tables}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:16]
