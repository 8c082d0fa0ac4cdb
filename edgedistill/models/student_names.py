"""What a student's name says by itself: the widths of a plain one, the share of a shrunk teacher. No torch."""

from edgedistill.models.names import split_teacher_name
from edgedistill_deploy.errors import UsageError

PREFIX = "plain:"
FEWEST_STAGES = 2
SHRUNK = "teacher:"
# By what the channels of a shrunk teacher are chosen (`edgedistill.shrinking.choosing`); the first is the default.
CHANNEL_CHOICES = ("relevance", "taylor", "magnitude", "random")


def plain_widths(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read the widths of the stages and of the head's hidden layers, as in `plain:16-12-8-8/96-96`.

    Raises:
        UsageError: they are not whole numbers above 0, or there are fewer than two stages.
    """
    stages, slash, hidden = name.removeprefix(PREFIX).partition("/")
    widths, head = stages.split("-"), hidden.split("-") if slash else []
    whole = all(part.isascii() and part.isdigit() and int(part) for part in (*widths, *head))
    if len(widths) < FEWEST_STAGES or not whole:
        raise UsageError(
            "A plain student is named by the widths of its stages, such as plain:32-24-16-8, and after a slash by "
            f"those of its head's hidden layers, such as plain:16-12-8-8/96-96, and {name!r} was given."
        )
    return tuple(map(int, widths)), tuple(map(int, head))


def check_width(width: float) -> None:
    """Refuse a factor on a student's channels that no student can have."""
    if not 0 < width <= 4:
        raise UsageError(f"The student width is a factor above 0 and at most 4, and {width} was given.")


def split_width(text: str) -> tuple[str, float]:
    """Read NAME or NAME@WIDTH, such as timm:resnet10t@0.25: the name as it is, and the factor on the channels.

    Raises:
        UsageError: the width is no number above 0 and at most 4.
    """
    name, at, width = text.strip().partition("@")
    try:
        factor = float(width) if at else 1.0
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 4:
        raise UsageError(
            "A student's width is a factor above 0 and at most 4 after an @, such as timm:resnet10t@0.25, and "
            f"{text!r} was given."
        )
    return name, factor


def is_shrunk(name: str) -> bool:
    """Tell whether a student is its own teacher, shrunk."""
    return name.startswith(SHRUNK)


def shrunk_share(name: str) -> float:
    """Read the share of the channels that a shrunk teacher keeps, as in `teacher:0.5`.

    Raises:
        UsageError: it is no number above 0 and below 1.
    """
    try:
        share = float(name.removeprefix(SHRUNK))
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(
            "A shrunk teacher is named by the share of its channels that it keeps, above 0 and below 1, such as "
            f"teacher:0.5, and {name!r} was given."
        )
    return share


def require_shrinkable(teacher: str) -> None:
    """Raise UsageError for a teacher, by its name, that is surely not of timm, so that it cannot be shrunk."""
    if split_teacher_name(teacher)[0] in ("torchvision", "transformers"):
        raise UsageError(
            f"Only a teacher of timm can be shrunk (timm:NAME, or a folder in timm's layout), and {teacher} was given; "
            "give another --student, such as timm:resnet18."
        )
