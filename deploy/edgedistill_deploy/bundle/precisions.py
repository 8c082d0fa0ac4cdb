"""The precisions of a bundle's models, the file of each, and the file that a runtime takes for one."""

import re
from collections.abc import Container, Iterable

from edgedistill_deploy.errors import UsageError, nearest_names

_ROLES = {
    "fp32": "model.fp32",
    "fp16": "model.fp16",
    "int8": "model.int8",
    "int8-tensorrt": "model.int8-tensorrt",
    "int8-fp16-tensorrt": "model.int8-fp16-tensorrt",
    "teacher": "teacher.fp32",
}
PRECISIONS = tuple(_ROLES)
# The expert's files in the order in which they are made, and those of them that calibration writes.
EXPERT_FILES = tuple(name for name in PRECISIONS if name != "teacher")
INT8_FILES = ("int8", "int8-tensorrt")
FP16_FILES = ("fp16", "int8-fp16-tensorrt")
# What is judged and measured by default, in the order of the tables. A runtime can have its own file for one.
USUAL_PRECISIONS = ("teacher", "fp32", "fp16", "int8")

# Those of ONNX Runtime's files that can have a file beside them that takes images of any size.
ANY_SIZE_PRECISIONS = ("fp32", "fp16", "int8")

# By runtime and precision: the files that the runtime takes instead of the one of that name, the best first.
_TAKEN_INSTEAD = {("tensorrt", "int8"): ("int8-tensorrt", "int8-fp16-tensorrt")}

DEVICE_RUNTIME = "onnxruntime"  # the runtime of files for single devices
# A further INT8 file for one device has the precision int8-DEVICE.
_FOR_DEVICE = re.compile(r"int8-([a-z0-9](?:[a-z0-9-]{0,60}[a-z0-9])?)")
_OTHER_ENDS = ("any-size", "recovered")  # of the names of other files and steps


def made_for(precision: str) -> str | None:
    """Return the device that an INT8 file was made for, as `plain_device` writes it; None for any other precision."""
    found = _FOR_DEVICE.fullmatch(precision)
    return found[1] if found and precision not in _ROLES and not precision.endswith(_OTHER_ENDS) else None


def plain_device(name: str) -> str:
    """Return a device's name in lower-case letters, digits and dashes, at most 62 of them; any text is taken."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:62].strip("-")


def device_precision(device: str) -> str:
    """Return the precision of the INT8 file for a device. Raises UsageError for a name that no file can have."""
    precision = f"int8-{plain_device(device)}"
    if made_for(precision) is None:
        raise UsageError(
            f"There can be no INT8 file for a device called {device[:60]!r}, because {precision} is the name of "
            "another file or none; give the device another name in `edgedistill devices`, and profile it again."
        )
    return precision


def suits(precision: str, device: str) -> bool:
    """Return whether a precision is one of every device, or was made for this one."""
    return made_for(precision) in (None, plain_device(device))


def is_precision(name: str) -> bool:
    """Return whether this is the name of a precision."""
    return name in _ROLES or made_for(name) is not None


def device_precisions(roles: Iterable[str]) -> tuple[str, ...]:
    """Return the precisions made for single devices among a bundle's roles."""
    names = (role.removeprefix("model.") for role in roles if role.startswith("model."))
    return tuple(sorted(name for name in names if made_for(name)))


def model_role(precision: str) -> str:
    """Return the role of the model of a precision: "int8" is "model.int8", "teacher" is "teacher.fp32"."""
    if made_for(precision):
        return f"model.{precision}"
    if precision not in _ROLES:
        raise UsageError(f"There is no precision {precision!r}.{nearest_names(precision, PRECISIONS)}")
    return _ROLES[precision]


def any_size_role(precision: str) -> str:
    """Return the role of the file for images of any size: "fp32" is "model.fp32-any-size". It is no precision."""
    return f"{model_role(precision)}-any-size"


def find_role(roles: Container[str], precision: str, runtime: str = "onnxruntime") -> str | None:
    """Return the role, among a bundle's, that a runtime takes for a precision; None where there is no model."""
    own = model_role(precision)
    files = _TAKEN_INSTEAD.get((runtime, precision))
    taken = (own,) if files is None else map(model_role, files)
    return next((role for role in taken if role in roles), None)


def offered_precisions(roles: Container[str], runtime: str) -> tuple[str, ...]:
    """Return the usual precisions that a runtime finds a file for among a bundle's roles, in their usual order."""
    return tuple(name for name in USUAL_PRECISIONS if find_role(roles, name, runtime))


def judged_precisions(precisions: Iterable[str]) -> frozenset[str]:
    """Return the precisions that a gate judges: all but the teacher's, which is judged only when it is alone."""
    found = frozenset(precisions)
    return found - {"teacher"} or found


def computes_in(precision: str) -> str:
    """Return what a model of a precision mostly computes in: "fp32", "fp16" or "int8"; the teacher in "fp32"."""
    return "fp32" if precision == "teacher" else precision.partition("-")[0]
