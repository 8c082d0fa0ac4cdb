"""Checks of settings, with sentences that say what is wrong: numbers, names, layer pairs. No torch."""

from collections.abc import Sequence

from edgedistill_deploy.errors import UsageError, nearest_names


def check_at_least(key: str, value: float, least: float) -> None:
    """Refuse a number below `least`, or one that is not finite."""
    if not least <= value < float("inf"):
        raise UsageError(f"{key} must be a number of at least {least}, and {value} was given.")


def check_above_zero(key: str, value: float) -> None:
    """Refuse a number that is not finite and above zero."""
    if not 0 < value < float("inf"):
        raise UsageError(f"{key} must be a number above 0, and {value} was given.")


def check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a name that is not among the allowed ones."""
    if value not in allowed:
        raise UsageError(f"{key} cannot be {value!r}.{nearest_names(value, allowed)}")


def check_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse (teacher, student) layer pairs that name a layer twice: a layer has one subspace, of one width."""
    for side, names in zip(("teacher", "student"), zip(*pairs, strict=True), strict=False):
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise UsageError(
                f"The {side}'s layer {repeated[0]!r} stands in {names.count(repeated[0])} pairs, and each layer can "
                "stand in one; leave the others out or name other layers."
            )
