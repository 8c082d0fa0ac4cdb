"""The results of an inspection, as values and as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgedistill.data.unlabelled import JudgedBy

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectedAccuracy:
    """How the teacher answers the validation images when one layer keeps its K leading directions.

    Attributes:
        accuracy: share of right answers, with Wilson's 95 % `interval`.
        agreement: share of images with the same answer as without projection.
        drop_interval: Tango's 95 % interval of the lost accuracy; it is narrower, because it compares the same images.
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
        entropy: exp of the entropy of the eigenvalues of A as shares of their sum; from 1 (a single direction varies)
            to D (all directions vary equally).
        directions_99: the least number of directions that hold 99 % of the variance.
    """

    entropy: float
    directions_99: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInspection:
    """One layer of the teacher; mappings are by method.

    Attributes:
        width: D; `map_size` is (H, W).
        effective_rank: of the activations; it does not depend on the method.
        eigenvalues: of the methods that have a matrix, falling (D,).
        accuracy_at_k: by rising K.
        suggested_width: the least K such that it and all larger measured K meet the target, rounded up to a multiple
            of 4; None when the largest K does not meet it. K misses the target where the whole interval of its drop
            lies beyond what the target allows. All are None where the suggestion was `refused`.
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
    """How wide the named student must be.

    Attributes:
        layers: {teacher layer: student layer}.
        widths: {teacher layer: channels of the student layer as the user asked for it}.
        factor: the least `width` of `build_student`, in steps of 0.01, that gives every paired layer the suggested
            width; None when this family has no factor or 4 is not enough. For a shrunk teacher it is the least share.
    """

    name: str
    layers: Mapping[str, str]
    widths: Mapping[str, int]
    factor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A student of the suggested widths.

    Attributes:
        method: the one that gave the widths.
        widths: from the first layer to the last.
        student: for `--student`: a plain network with a stage for each layer; None when a width is missing or there is
            only one layer.
        together_accuracy: the teacher's when all layers are projected at once, each on as many directions as its
            width; None when a width is missing.
        together_drop_interval: Tango's 95 % interval of the accuracy that this loses.
        given: the same for the named student.
        refused: why no width is suggested: too few images, or a teacher at chance; None where they suffice.
    """

    method: str
    widths: tuple[int | None, ...]
    student: str | None
    together_accuracy: float | None
    together_drop_interval: Interval | None
    given: StudentFactor | None
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The subspaces of some layers of a teacher, for a subtask.

    Attributes:
        seed: of the samples and of `random`.
        training_count: images that the subspaces come from.
        validation_count: images that the accuracies come from; never test images.
        teacher_accuracy: without projection, on the validation images, with Wilson's 95 % `teacher_interval`.
        target: the part of this accuracy that a suggested width keeps.
        judged_by: "labels", or "teacher" where no validation image has a label: an answer is then right if it is the
            teacher's without projection.
        layers: from shallow to deep.
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
    judged_by: JudgedBy
    layers: tuple[LayerInspection, ...]
    suggestion: Suggestion

    def to_json(self) -> dict[str, Any]:
        """Return the record."""
        return {"kind": "inspection", "schema": 1, **asdict(self)}
