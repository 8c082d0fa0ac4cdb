"""What a teacher's name says: which library builds it, and what that library calls it. No torch."""

FOLDER = "folder"
TEACHER_KINDS = ("timm", "torchvision", "transformers", "python", "embedded", "local-dir")


def split_teacher_name(name: str) -> tuple[str, str]:
    """Return (kind, the rest) of a teacher's name: ("timm", "resnet50"), or (`FOLDER`, name) without a kind."""
    kind, colon, rest = name.partition(":")
    if colon and kind in TEACHER_KINDS:
        return (FOLDER if kind == "local-dir" else kind), rest
    return FOLDER, name
