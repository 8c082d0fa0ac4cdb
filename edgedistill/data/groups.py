"""Images of groups: the folders of the members become one class, before anything else is done with the images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgedistill.subtasks.named import expand_nouns
from edgedistill_deploy.classes.groups import REST_NAME, ClassGroup, WantedClass, claim_folders, list_some
from edgedistill_deploy.classes.lookup import in_one_message
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSplits

UNEVEN = 3  # times the images of the largest other class, from which "something else" outweighs the others


def gather_groups(source: ImageSplits, classes: Sequence[WantedClass]) -> ImageSplits:
    """Return the images with one class for each group, and notes that say which folders it is made of.

    A source for classes without groups, or without labels, is returned as it is.

    Raises:
        DataError: a class has no folder, or a folder belongs to two classes.
    """
    wanted = expand_nouns(classes)
    if not source.class_names or all(isinstance(each, str) for each in wanted):
        return source
    claims = claim_folders(source.class_names, wanted, "The images have")
    if claims.problems:
        raise DataError(in_one_message(claims.problems))
    counts = count_images(source)
    merged = source.rename_classes(claims.renamed)
    notes = (*_describe_groups(wanted, counts, claims.owners), *_describe_uneven(count_images(merged), wanted))
    return replace(merged, notes=(*source.notes, *notes))


def count_images(source: ImageSplits) -> dict[str, int]:
    """Return how many images each class of a source has, in all splits."""
    sets = [each for each in (source.train, source.validation, source.test) if each is not None]
    counts = sum(np.bincount(each.labels[each.labels >= 0], minlength=len(source.class_names)) for each in sets)
    return dict(zip(source.class_names, np.asarray(counts).tolist(), strict=True))


def _describe_groups(
    classes: Sequence[WantedClass], counts: Mapping[str, int], owners: Sequence[str | None]
) -> Iterator[str]:
    """Name the folders of each group, with the numbers of their images."""
    for group in (each for each in classes if isinstance(each, ClassGroup)):
        folders = [
            f"{folder} ({count})"
            for (folder, count), owner in zip(counts.items(), owners, strict=True)
            if owner == group.name
        ]
        yield f"The class {group.name!r} has the images of {list_some(folders)}."


def _describe_uneven(counts: Mapping[str, int], classes: Sequence[WantedClass]) -> Iterator[str]:
    """Say when "something else" has far more images than any other class: it would decide the accuracy."""
    others = [each for each in classes if isinstance(each, str) or each.name != REST_NAME]
    largest = max((counts.get(each if isinstance(each, str) else each.name, 0) for each in others), default=0)
    rest = counts.get(REST_NAME, 0)
    if len(others) < len(classes) and rest >= UNEVEN * largest:
        yield (
            f"The class {REST_NAME!r} has {rest} images, and the largest other class {largest}: accuracy and training "
            f"weigh it more. --max-class-drop holds every class to a limit; fewer folders of other classes make it "
            "smaller."
        )
