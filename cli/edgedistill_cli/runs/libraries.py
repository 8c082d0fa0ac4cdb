"""The libraries that the stages import, and their extras; a missing one is found before any stage starts."""

import importlib.util
from collections.abc import Iterable

from edgedistill.models.names import split_teacher_name
from edgedistill.models.student_names import is_shrunk
from edgedistill_cli.settings import RunSettings
from edgedistill_deploy.errors import MissingDependencyError

# The libraries of each stage, and the extra that brings them.
_STAGES = {
    "distill": (("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx"), "distill"),
    "export": (("torch", "torchvision", "timm", "onnx", "onnxscript", "onnxruntime"), "distill"),
    "calibrate": (("onnx", "onnxruntime", "sympy"), "quantize"),
    "validate": (("onnxruntime",), "ort"),
    "profile": (("onnxruntime",), "ort"),
    "report": (("jinja2",), "report"),
}


def require_libraries(user: str, libraries: Iterable[str], extra: str) -> None:
    """Raise MissingDependencyError, with the command that installs it, for the first missing library."""
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            raise MissingDependencyError(library, extra, user)


def require_stage(stage: str, settings: RunSettings) -> None:
    """Raise MissingDependencyError for the first library that a stage needs and this machine lacks."""
    require_libraries(f"The stage {stage!r}", *_STAGES[stage])
    needed = {"distill": (settings.teacher, *settings.teacher.others), "export": (settings.teacher,)}
    for teacher in needed.get(stage, ()):
        if split_teacher_name(teacher.name)[0] == "transformers":
            require_libraries(f"The teacher {teacher.name}", ("transformers",), "transformers")
    if stage == "distill":
        _require_for_student(settings.student.name)
    if stage == "distill" and settings.distill.lambda_layer == "auto":
        require_libraries('lambda_layer = "auto"', ("optuna",), "tune")
    if stage == "distill" and settings.distill.tensorboard:
        require_libraries("tensorboard = true", ("tensorboard",), "tensorboard")


def require_comparison(students: Iterable[str]) -> None:
    """Raise MissingDependencyError for the first library that comparing these students needs and this machine lacks."""
    require_libraries("Comparing methods", ("matplotlib", "scipy"), "compare")
    require_libraries("Comparing methods", *_STAGES["distill"])
    for student in students:
        _require_for_student(student)


def require_explanation(method: str) -> None:
    """Raise MissingDependencyError for the first library that a method of attribution needs and this machine lacks."""
    libraries = {"integrated-gradients": ("captum",), "lrp": ("zennit",), "attention": ()}
    user = f"The method {method}"
    require_libraries(user, ("torch", "timm", "safetensors"), "distill")
    require_libraries(user, (*libraries.get(method, ("captum",)), "scipy"), "explain")


def _require_for_student(name: str) -> None:
    if is_shrunk(name):
        require_libraries(f"The student {name}", ("torch_pruning",), "shrink")
