"""How much of the pictures may be lost, and how a person is told of what is not used."""

from collections import Counter
from collections.abc import Mapping, Sequence

from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.skipped import SkippedFile, describe_skipped

MAX_BAD = 0.1  # of all pictures of the subtask
_MAX_BAD_IN_CLASS = 0.5  # a class that mostly vanished is not the class that the user has in mind


class UnusableImagesError(DataError):
    """Too many pictures cannot be used; `skipped` lists all files that are not used."""

    def __init__(self, message: str, skipped: tuple[SkippedFile, ...] = ()) -> None:
        super().__init__(message)
        self.skipped = skipped


def check_limits(skipped: Sequence[SkippedFile], used: Mapping[str, int], max_bad: float | None) -> None:
    """Refuse data of which too much cannot be used.

    Args:
        skipped: of the subtask's classes.
        used: {class: number of images that can be used}, with "" for the images without a label.
        max_bad: the largest share of unusable pictures that is left out without stopping; None for `MAX_BAD`.

    Raises:
        UnusableImagesError: the share is larger, or a class lost more than half of its pictures (and more than this
            share).
    """
    limit = MAX_BAD if max_bad is None else max_bad
    lost = [each for each in skipped if each.lost]
    in_class = Counter(each.class_name for each in lost)
    for name, bad in in_class.items():
        whole = bad + used.get(name, 0)
        if bad > max(limit, _MAX_BAD_IN_CLASS) * whole:
            listed = describe_skipped([each for each in lost if each.class_name == name])
            raise UnusableImagesError(
                f"{bad} of the {whole} pictures {_named(name)} cannot be used: {listed}. Convert or replace them, or"
                f" raise --max-bad, which is {limit:.3g}.",
                tuple(skipped),
            )
    whole = len(lost) + sum(used.values())
    if len(lost) > limit * whole:
        raise UnusableImagesError(
            f"{len(lost)} of {whole} pictures cannot be used, a share of {len(lost) / whole:.3f}, and --max-bad allows "
            f"{limit:.3g}: {describe_skipped(lost)}. Convert, replace or remove them, or raise --max-bad.",
            tuple(skipped),
        )


def _named(class_name: str) -> str:
    return f"of class {class_name!r}" if class_name else "without a label"


def describe_losses(skipped: Sequence[SkippedFile], used: Mapping[str, int]) -> list[str]:
    """Return notes that say which files are not used, and how many pictures each class lost."""
    counted = "1 file of the folders is" if len(skipped) == 1 else f"{len(skipped)} files of the folders are"
    notes = [f"{counted} not used: {describe_skipped(skipped)}."] if skipped else []
    in_class = Counter(each.class_name for each in skipped if each.lost)
    parts = [f"{name or 'without a label'} {bad} of {bad + used.get(name, 0)}" for name, bad in in_class.most_common()]
    return [*notes, f"Pictures that cannot be used, by class: {', '.join(parts)}."] if parts else notes
