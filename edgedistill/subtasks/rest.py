"""The class "something else": the teacher's other classes, as far as there are images of them."""

from collections.abc import Sequence

from edgedistill.subtasks.named import expand_nouns
from edgedistill.subtasks.subtask import find_outputs
from edgedistill_deploy.classes.groups import REST_NAME, ClassGroup, WantedClass, claim_folders
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import DataError

_INSTEAD = "leave --rest out, or add such folders"


def find_rest(teacher_classes: Sequence[str], classes: Sequence[WantedClass], folders: Sequence[str]) -> ClassGroup:
    """Return the group of the teacher's classes that are in none of the subtask's, and that have images.

    Args:
        teacher_classes: the teacher's labels.
        classes: the subtask's other classes.
        folders: the names of the classes of the images.

    Raises:
        DataError: the teacher has no other classes, or there are no images of them.
    """
    outside = find_other_outputs(teacher_classes, classes)
    if not outside:
        raise DataError(
            f"The teacher has no classes beside those of the subtask, so there is nothing that {REST_NAME!r} could "
            "stand for; leave --rest out."
        )
    names = find_other_folders(teacher_classes, classes, folders)
    if not names:
        raise DataError(
            f"--rest takes its images from folders that are called like other classes of the teacher, of which there "
            f"are {len(outside)}, and the data has none; {_INSTEAD}."
        )
    return ClassGroup(name=REST_NAME, members=tuple(names))


def find_other_outputs(teacher_classes: Sequence[str], classes: Sequence[WantedClass]) -> tuple[int, ...]:
    """Return the teacher's outputs that no class of the subtask is made of."""
    inside = find_outputs(teacher_classes, classes)
    return tuple(place for place in range(len(teacher_classes)) if place not in inside)


def find_other_folders(
    teacher_classes: Sequence[str], classes: Sequence[WantedClass], folders: Sequence[str]
) -> dict[str, str]:
    """Return {the teacher's name of another class: the folder of its images}, in the order of the outputs."""
    known, images = ClassList(teacher_classes), ClassList(folders)
    owners = claim_folders(folders, expand_nouns(classes), "The images have").owners
    found: dict[str, str] = {}
    for place in find_other_outputs(teacher_classes, classes):
        name = known.names[place] if known.find(known.names[place]) == place else known.call(place)
        folder = images.find(name) if known.find(name) == place else None
        if folder is not None and owners[folder] is None:
            found[name] = folders[folder]
    return found
