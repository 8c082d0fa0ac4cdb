"""What the names of a teacher and of a student say without building them. No torch."""

from pathlib import PurePath

FOLDER = "folder"
# What `student.weights` may be beside a file or a folder.
START_UNSET, START_FROM_TIMM, START_FROM_NOTHING = "auto", "pretrained", "none"
STARTS = (START_UNSET, START_FROM_TIMM, START_FROM_NOTHING)
TEACHER_KINDS = ("timm", "torchvision", "transformers", "python", "embedded", "local-dir")


def split_teacher_name(name: str) -> tuple[str, str]:
    """Return (kind, the rest) of a teacher's name: ("timm", "resnet50"), or (`FOLDER`, name) without a kind."""
    kind, colon, rest = name.partition(":")
    if colon and kind in TEACHER_KINDS:
        return (FOLDER if kind == "local-dir" else kind), rest
    return FOLDER, name


def shown_teacher_name(name: str) -> str:
    """Return a teacher's name without the folders above its own, because records are sent to others."""
    kind, rest = split_teacher_name(name)
    return (PurePath(rest).name or rest) if kind == FOLDER else name


def starts_from_nothing(student: str, width: float) -> bool:
    """Tell whether no trained weights can fit a student: it is a plain network, or its width is scaled."""
    return student.startswith("plain:") or width != 1.0
