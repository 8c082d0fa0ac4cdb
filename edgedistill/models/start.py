"""Where a student starts: from nothing, or from weights that were trained before."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from edgedistill.models.libraries.files import require_start_files
from edgedistill.models.libraries.found import Found
from edgedistill.models.libraries.messages import INSTEAD_OF_START
from edgedistill.models.libraries.timm_models import check_fit, load_from_timm, load_from_timm_folder, set_image_size
from edgedistill.models.libraries.timm_names import has_trained_weights
from edgedistill.models.names import START_FROM_NOTHING, START_FROM_TIMM, START_UNSET, starts_from_nothing
from edgedistill.models.normalise import give_own_pixels
from edgedistill.models.student_names import PREFIX, is_shrunk
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import sha256_of_file


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAliases:
    """The names by which weights may know a group: its own, and those of each member."""

    own: str
    members: tuple[Sequence[str], ...]


ClassAliases = Sequence[str] | GroupAliases


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a student starts from: `found`, a trained model; or nothing, `because` of a reason.

    A shrunk teacher has neither before it is made; then `found` is its own teacher with fewer channels.
    """

    weights: str = ""
    found: Found | None = None
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """How a student started, for the manifest of its bundle.

    Attributes:
        weights: what the weights are: `timm:NAME`, the name of a file or folder, or a sentence about a shrunk teacher;
            empty for a start from nothing.
        because: why it started from nothing; empty for trained weights.
        weights_sha256: hash of the weights' file; of weights that a library fetched, hash of them as safetensors.
        license: of weights that timm fetched, where it names one.
        mean, std: the pixels that the student was trained on and keeps, per channel, of images in [0, 1].
        head_rows: how many of `head_classes` outputs start from the trained rows of their classes.
        notes: how the weights were read.
    """

    weights: str = ""
    because: str = ""
    weights_sha256: str = ""
    license: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    head_rows: int = 0
    head_classes: int = 0
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "StartRecord":
        """Read what `to_json` returns, as the manifest keeps it."""
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(**values)

    def sentence(self) -> str:
        """Say in one line where the student starts."""
        if not self.weights:
            return f"the student starts from nothing: {self.because}"
        head = f"the head starts from {self.head_rows} of {self.head_classes} trained rows"
        if not self.head_rows:
            head = "its head is new, because the weights name none of these classes"
        return f"the student starts from the trained weights of {self.weights}; {head}"

    def find_headless(self) -> str:
        """Say why the student cannot answer as it starts; empty where each of its classes has a trained row."""
        if not self.weights:
            return f"the student starts from nothing: {self.because}"
        if self.head_rows < self.head_classes:
            return f"its trained weights know {self.head_rows} of the {self.head_classes} classes"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return asdict(self)


def find_start(name: str, weights: str | None = START_UNSET, width: float = 1.0) -> Start:
    """Find what a student starts from, and load it if it is trained.

    Args:
        name: as for `build_student`.
        weights: `auto` takes timm's trained weights where it has any for this name at full width; `pretrained` demands
            them; `none`, or None for settings that knew no other, starts from nothing; all else is a file of weights
            or a folder in timm's layout.
        width: as for `build_student`.

    Raises:
        UsageError: trained weights are asked for, and this student cannot have them.
        DataError: they cannot be read or fetched.
    """
    if weights is None:
        return Start(because="its settings are of a version that had no trained weights")
    if weights == START_FROM_NOTHING:
        return Start(because=f"student.weights is {START_FROM_NOTHING}")
    if is_shrunk(name):
        return _start_of_shrunk(name, weights)
    if because := find_obstacle(name, weights, width):
        if weights == START_UNSET:
            return Start(because=because)
        raise UsageError(
            f"--student-weights {weights} is for timm:NAME at full width, and {because}; {INSTEAD_OF_START}."
        )
    return _load(name.removeprefix("timm:"), weights)


def _start_of_shrunk(name: str, weights: str) -> Start:
    """Leave the weights of a shrunk teacher to its making."""
    if weights not in (START_UNSET, START_FROM_TIMM):
        raise UsageError(
            f"--student-weights {weights} was given, and the student {name} starts from its teacher's weights; leave "
            f"it out, or give --student-weights {START_FROM_NOTHING} to start from nothing."
        )
    return Start()


def find_obstacle(name: str, weights: str = START_UNSET, width: float = 1.0) -> str:
    """Say why a student cannot start from trained weights; empty where it can. Nothing is loaded."""
    if is_shrunk(name):
        return ""
    if starts_from_nothing(name, width):
        return (
            "a plain student has no trained weights" if name.startswith(PREFIX) else f"its width is scaled by {width}"
        )
    is_of_timm = weights in (START_UNSET, START_FROM_TIMM)
    bare = name.removeprefix("timm:")
    return f"timm has no trained weights for {bare}" if is_of_timm and not has_trained_weights(bare) else ""


def _load(name: str, weights: str) -> Start:
    if weights in (START_UNSET, START_FROM_TIMM):
        found = load_from_timm(name, None, None, instead=INSTEAD_OF_START)
        return Start(weights=f"timm:{name}", found=found)
    path = Path(weights)
    require_start_files(path)
    found = load_from_timm_folder(path, None, whose="student") if path.is_dir() else load_from_timm(name, path, None)
    return Start(weights=path.name, found=found)


def begin_student(
    student: nn.Module, start: Start, aliases: Sequence[ClassAliases], image_size: tuple[int, int] | None = None
) -> StartRecord:
    """Fill a new student with the weights that it starts from, and let it keep the pixels that they were trained on.

    Args:
        student: from `build_student`; it changes in place.
        start: from `find_start`.
        aliases: for each output of the student, the names of its class; the first that the weights know decides which
            trained row the output starts from. A group starts from the mean of the rows of those members that the
            weights know, and from the row of its own name if they know none.
        image_size: (H, W), as for `build_student`.

    Raises:
        UsageError: the weights are for images that are not of three colours.
        DataError: they are of another architecture.
    """
    if start.found is None:
        return StartRecord(because=start.because)
    found = start.found
    if found.channels != 3:
        raise UsageError(
            f"The weights {start.weights} are for images of {found.channels} channels; {INSTEAD_OF_START}."
        )
    if image_size is not None:
        set_image_size(found.model, image_size)
    rows = _fill(student, start.weights, found, _find_rows(found.labels, aliases))
    record = StartRecord(
        weights=start.weights,
        weights_sha256=_hash(found),
        license="" if found.origin is not None else str(_config(found.model).get("license") or ""),
        mean=tuple(found.mean),
        std=tuple(found.std),
        head_rows=rows,
        head_classes=len(aliases),
        notes=found.notes,
    )
    mark_started(student, record.to_json())
    return record


def mark_started(student: nn.Module, record: Mapping[str, Any]) -> None:
    """Note in a student what its bundle says about its start: the weights, and the pixels that it takes."""
    if record.get("weights"):
        give_own_pixels(student, record["mean"], record["std"])
        student.started_from = str(record["weights_sha256"])  # type: ignore[assignment]  # a note, not a module
        knows = 0 < record.get("head_classes", 0) == record.get("head_rows", 0)
        student.knows_classes = knows


def started_from(student: nn.Module) -> str:
    """Return the hash of the weights that a student starts from; empty for a start from nothing."""
    return str(getattr(student, "started_from", ""))


def knows_classes(student: nn.Module) -> bool:
    """Whether each output of a student starts from trained rows of its class."""
    return bool(getattr(student, "knows_classes", False))


def _find_rows(labels: Sequence[str] | None, aliases: Sequence[ClassAliases]) -> list[list[int]]:
    """Return for each output the trained rows that it starts from."""
    known = ClassList(labels or ())

    def find(names: Sequence[str]) -> list[int]:
        return [row for name in names if (row := known.find(name)) is not None][:1]

    return [
        (sorted({row for names in each.members for row in find(names)}) or find([each.own]))
        if isinstance(each, GroupAliases)
        else find(each)
        for each in aliases
    ]


def _fill(student: nn.Module, weights: str, found: Found, rows: Sequence[list[int]]) -> int:
    """Copy all trained tensors but the head's, and the head's rows; return how many outputs got trained rows."""
    trained, own = found.model.state_dict(), student.state_dict()
    head = _head_names(found.model)
    body = {name: tensor for name, tensor in trained.items() if name not in head}
    wanted = {name: tensor for name, tensor in own.items() if name not in head}
    check_fit(weights, body, wanted)
    fits = all(name in own and own[name].shape[1:] == trained[name].shape[1:] for name in head)
    copied = {place: each for place, each in enumerate(rows) if each} if fits else {}
    student.load_state_dict({**own, **body, **{name: _with_rows(own[name], trained[name], copied) for name in head}})
    return len(copied)


def _with_rows(own: Tensor, trained: Tensor, rows: Mapping[int, list[int]]) -> Tensor:
    filled = own.clone()
    for place, each in rows.items():
        filled[place] = trained[each[0]] if len(each) == 1 else trained[each].mean(dim=0)
    return filled


def _head_names(model: nn.Module) -> list[str]:
    """Return the names of the tensors with one row for each class."""
    layers = _config(model).get("classifier") or ()
    places = tuple(f"{each}." for each in ([layers] if isinstance(layers, str) else layers))
    return [name for name in model.state_dict() if name.startswith(places)] if places else []


def _hash(found: Found) -> str:
    if found.origin is not None:
        return sha256_of_file(found.origin)
    state = {name: tensor.contiguous() for name, tensor in found.model.state_dict().items()}
    return hashlib.sha256(save(state)).hexdigest()


def _config(model: nn.Module) -> dict[str, Any]:
    return dict(model.pretrained_cfg)  # type: ignore[arg-type]  # timm sets a mapping
