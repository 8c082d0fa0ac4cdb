"""EdgeDistill: from a large image classifier and a few of its classes to a compact expert on a device.

The names below are what other programs may rely on; they are imported when first asked for, so that importing the
package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedistill.config import DistillConfig
    from edgedistill.data.sources import open_source
    from edgedistill.data.splits import SubtaskImages, split_for_subtask
    from edgedistill.distillation.subdistill import DistillResult, distill
    from edgedistill.export.bundle import export_onnx
    from edgedistill.export.config import ExportConfig
    from edgedistill.inspection.inspecting import inspect_subspaces
    from edgedistill.models.student import build_student
    from edgedistill.models.teacher import Teacher, load_teacher
    from edgedistill.networks.layers import LayerPair
    from edgedistill.networks.pairing import pair_layers
    from edgedistill.subspaces.directions import Subspace
    from edgedistill.subspaces.finding import find_subspaces
    from edgedistill.subtasks.subtask import Subtask

_HOMES = {
    "DistillConfig": "config",
    "DistillResult": "distillation.subdistill",
    "ExportConfig": "export.config",
    "LayerPair": "networks.layers",
    "Subspace": "subspaces.directions",
    "Subtask": "subtasks.subtask",
    "SubtaskImages": "data.splits",
    "Teacher": "models.teacher",
    "build_student": "models.student",
    "distill": "distillation.subdistill",
    "export_onnx": "export.bundle",
    "find_subspaces": "subspaces.finding",
    "inspect_subspaces": "inspection.inspecting",
    "load_teacher": "models.teacher",
    "open_source": "data.sources",
    "pair_layers": "networks.pairing",
    "split_for_subtask": "data.splits",
}

__all__ = [
    "DistillConfig",
    "DistillResult",
    "ExportConfig",
    "LayerPair",
    "Subspace",
    "Subtask",
    "SubtaskImages",
    "Teacher",
    "build_student",
    "distill",
    "export_onnx",
    "find_subspaces",
    "inspect_subspaces",
    "load_teacher",
    "open_source",
    "pair_layers",
    "split_for_subtask",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgedistill' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"edgedistill.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
