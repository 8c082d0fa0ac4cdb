"""EdgeDistill: from a large image classifier and a few of its classes to a compact expert on a device.

Other programs may rely on the names below. A name's module is loaded at its first use, so that `import edgedistill` is
fast.
"""

from typing import TYPE_CHECKING

from edgedistill_deploy.faces import build_face

if TYPE_CHECKING:
    from edgedistill.config import DistillConfig as DistillConfig
    from edgedistill.data.sources import open_source as open_source
    from edgedistill.data.splits import SubtaskImages as SubtaskImages
    from edgedistill.data.splits import split_for_subtask as split_for_subtask
    from edgedistill.distillation.subdistill import DistillResult as DistillResult
    from edgedistill.distillation.subdistill import distill as distill
    from edgedistill.export.bundle import export_onnx as export_onnx
    from edgedistill.export.config import ExportConfig as ExportConfig
    from edgedistill.inspection.inspecting import inspect_subspaces as inspect_subspaces
    from edgedistill.models.student import build_student as build_student
    from edgedistill.models.teacher import Teacher as Teacher
    from edgedistill.models.teacher import load_teacher as load_teacher
    from edgedistill.networks.layers import LayerPair as LayerPair
    from edgedistill.networks.pairing import pair_layers as pair_layers
    from edgedistill.shrinking.shrinking import shrink_teacher as shrink_teacher
    from edgedistill.subspaces.directions import Subspace as Subspace
    from edgedistill.subspaces.finding import find_subspaces as find_subspaces
    from edgedistill.subtasks.subtask import Subtask as Subtask
else:
    __getattr__, __dir__, __all__ = build_face(
        __name__,
        {
            "config": "DistillConfig",
            "data.sources": "open_source",
            "data.splits": "SubtaskImages split_for_subtask",
            "distillation.subdistill": "DistillResult distill",
            "export.bundle": "export_onnx",
            "export.config": "ExportConfig",
            "inspection.inspecting": "inspect_subspaces",
            "models.student": "build_student",
            "models.teacher": "Teacher load_teacher",
            "networks.layers": "LayerPair",
            "networks.pairing": "pair_layers",
            "shrinking.shrinking": "shrink_teacher",
            "subspaces.directions": "Subspace",
            "subspaces.finding": "find_subspaces",
            "subtasks.subtask": "Subtask",
        },
    )
