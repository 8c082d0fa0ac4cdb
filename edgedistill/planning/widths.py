"""The widths that an inspection of the teacher suggests, and a student's beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from edgedistill.data.splits import SubtaskImages
from edgedistill.inspection.config import InspectConfig
from edgedistill.inspection.inspecting import inspect_subspaces
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import count_cost
from edgedistill.networks.layers import map_shapes
from edgedistill.networks.pairing import pair_layers
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
from edgedistill_deploy.progress import Progress, silent

# A plan makes an inspection of at most so many multiply-adds, about a minute of a processor.
_CHEAP = 1e12
INSPECTED, INSPECTED_FOR = 200, 600  # validation and training images


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedWidths:
    """What an inspection of the teacher suggests: widths {teacher layer: channels}, and a student."""

    widths: Mapping[str, int]
    student: str | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "SuggestedWidths":
        """Read an inspection's record. Raises DataError for another record."""
        try:
            suggestion, layers = record["suggestion"], record["layers"]
            widths = [(each["layer"], each["suggested_width"][suggestion["method"]]) for each in layers]
            found = {str(layer): int(width) for layer, width in widths if width is not None}
            return cls(widths=found, student=suggestion["student"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                "The inspection is not what `edgedistill inspect` writes; make it again, or leave it out."
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWidth:
    """A teacher's layer, the channels that the inspection suggests for it, the student's layer and its channels."""

    teacher: str
    suggested: int
    student: str
    width: int


def find_layer_widths(
    teacher: Teacher, student: nn.Module, suggested: SuggestedWidths
) -> tuple[LayerWidth, ...] | None:
    """Return a student's widths beside the suggested ones; None where no layer pairs with an inspected one."""
    size = teacher.preprocess.size
    try:
        pairs = [pair for pair in pair_layers(teacher.model, student, size) if pair.teacher in suggested.widths]
        shapes = map_shapes(student, [pair.student for pair in pairs], size)
    except (EdgeDistillError, UsageError):
        return None
    found = [(pair.teacher, suggested.widths[pair.teacher], pair.student, shapes[pair.student][0]) for pair in pairs]
    return tuple(LayerWidth(teacher=t, suggested=s, student=name, width=w) for t, s, name, w in found) or None


def read_suggested_widths(file: Path) -> SuggestedWidths:
    """Read the record of an inspection. Raises DataError for another file."""
    try:
        return SuggestedWidths.of(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise DataError(f"{file} is no JSON; give the inspection.json that `edgedistill inspect` wrote.") from error


def find_suggested_widths(
    teacher: Teacher, subtask: Subtask, images: SubtaskImages, progress: Progress = silent
) -> tuple[SuggestedWidths | None, str]:
    """Inspect the teacher where that is cheap; return the suggested widths, and their source or why there are none."""
    each = count_cost(teacher.model, teacher.preprocess.size).multiply_adds
    if float(each) * (3 * INSPECTED_FOR + 50 * INSPECTED) > _CHEAP:
        return None, (
            "No suggested widths: inspecting this teacher takes longer than the plan; run `edgedistill inspect --out "
            "DIR` and give --inspection DIR/inspection.json."
        )
    config = InspectConfig(methods=("prca",), images=INSPECTED, training_images=INSPECTED_FOR)
    try:
        found = inspect_subspaces(teacher, subtask, images, config, progress=progress)
    except EdgeDistillError as error:
        return None, f"No suggested widths: {error}"
    if found.suggestion.refused is not None:
        return None, f"No suggested widths: {found.suggestion.refused}"
    return SuggestedWidths.of(found.to_json()), (
        f"The suggested widths are from {found.training_count} training and {found.validation_count} validation "
        "images; `edgedistill inspect` takes more."
    )
