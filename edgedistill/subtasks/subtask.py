"""The subtask: which of the teacher's classes the expert keeps, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill_deploy.classes.imagenet import is_synset, labels_of_synsets, synset_in
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """Some classes of a teacher: class i is logit i of the expert, and logit `class_indices[i]` of the teacher."""

    name: str
    class_indices: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.class_names)

    def to_json(self) -> dict[str, object]:
        """Return the manifest's record of the subtask."""
        return {"name": self.name, "class_names": list(self.class_names), "class_indices": list(self.class_indices)}


def find_subtask(teacher_classes: Sequence[str], names: Sequence[str], *, name: str = "subtask") -> Subtask:
    """Look the named classes up among the teacher's, as `ClassList` does.

    A class keeps the name that it was given; a synset id ("n01440764") becomes the label of its class. Numbers are
    names too, never positions.

    Raises:
        UsageError: fewer than two classes are named, or some names are unknown, ambiguous or of one class; the message
            lists all of these.
    """
    if len(names) < 2:
        raise UsageError(
            f"A subtask needs at least two classes, and {len(names)} was given: a classifier with one class has nothing"
            " to decide. Name two or more with --classes A,B."
        )
    places = ClassList(teacher_classes).find_all(names, "The teacher has", subtasks=True)
    called = (_label_of(each, teacher_classes[place]) for each, place in zip(names, places, strict=True))
    return Subtask(name=name, class_indices=places, class_names=tuple(called))


def _label_of(name: str, label: str) -> str:
    """Return a name as the expert's class carries it: words instead of a synset id."""
    if not is_synset(name):
        return name
    known = labels_of_synsets().get(name, label)
    # A label that several classes share ("crane") says less than ImageNet's own.
    return known if is_synset(label) or synset_in(known) else label
