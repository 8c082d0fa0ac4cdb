"""What an inspection finds, as values and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedAccuracy:
    """How the teacher answers when one layer keeps its K leading directions.

    Attributes:
        k: K.
        accuracy: share of the validation images that are named as they are labelled.
        interval: Wilson's 95 % interval of that share.
        agreement: share on which it answers as the teacher does without projection.
        drop_interval: Tango's 95 % interval of the accuracy lost; the images are the same, so it is the tighter of the
            two.
    """

    k: int
    accuracy: float
    interval: Interval
    agreement: float
    drop_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRank:
    """How many directions the activations of a layer fill.

    Attributes:
        entropy: exp of the entropy of the variance spectrum (eigenvalues of A, as shares of their sum): D when all
            directions vary alike, 1 when only one does.
        directions_99: the least number of directions that hold 99 % of the variance.
    """

    entropy: float
    directions_99: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInspection:
    """One layer of the teacher; mappings are by method.

    Attributes:
        layer: dotted name.
        width: D.
        map_size: (H, W).
        effective_rank: of the activations; no method changes it.
        eigenvalues: of the methods that have a matrix, falling (D,).
        accuracy_at_k: by rising K.
        suggested_width: the least K from which on the target is met at every K that was measured, rounded up to a
            multiple of 4; None when it is not met at the largest one.
    """

    layer: str
    width: int
    map_size: tuple[int, int]
    effective_rank: EffectiveRank
    eigenvalues: Mapping[str, tuple[float, ...]]
    accuracy_at_k: Mapping[str, tuple[ProjectedAccuracy, ...]]
    suggested_width: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentFactor:
    """How wide the student that was named must be.

    Attributes:
        name: as `build_student` takes it.
        layers: {teacher layer: student layer}.
        widths: {teacher layer: channels of the student layer as it was given}.
        factor: the least `width` of `build_student`, in hundredths, at which every paired layer has the suggested
            width; None when this family has no factor or 4 is not enough.
    """

    name: str
    layers: Mapping[str, str]
    widths: Mapping[str, int]
    factor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A student of the suggested widths.

    Attributes:
        method: whose widths these are.
        widths: from the first layer to the last.
        student: ready for `--student`: a plain network with a stage for each layer; None when a width is missing or
            there is only one layer.
        together_accuracy: the teacher's with all layers projected at once, each on so many directions as its width
            says; None when a width is missing.
        together_drop_interval: Tango's 95 % interval of the accuracy that this loses.
        given: the same for the student that was named.
    """

    method: str
    widths: tuple[int | None, ...]
    student: str | None
    together_accuracy: float | None
    together_drop_interval: Interval | None
    given: StudentFactor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The subspaces of some layers of a teacher, for a subtask.

    Attributes:
        teacher: name.
        subtask: name.
        class_names: of the subtask.
        seed: of the samples and of `random`.
        training_count: images the subspaces come from.
        validation_count: images the accuracies come from; never test images.
        teacher_accuracy: without projection, on those.
        teacher_interval: Wilson's 95 % interval.
        target: the part of it that a suggested width keeps.
        layers: from shallow to deep.
        suggestion: a student.
    """

    teacher: str
    subtask: str
    class_names: tuple[str, ...]
    seed: int
    training_count: int
    validation_count: int
    teacher_accuracy: float
    teacher_interval: Interval
    target: float
    layers: tuple[LayerInspection, ...]
    suggestion: Suggestion

    def to_json(self) -> dict[str, Any]:
        """Return the record."""
        return {"kind": "inspection", "schema": 1, **asdict(self)}
