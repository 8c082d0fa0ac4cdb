"""What the name of a plain student says: the widths of its layers. No torch."""

from edgedistill_deploy.errors import UsageError

PREFIX = "plain:"
FEWEST_STAGES = 2


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
