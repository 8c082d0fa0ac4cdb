"""The subtask: which of the teacher's classes the expert keeps, and in which order."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from edgedistill_deploy.errors import UsageError, nearest_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtask:
    """Some classes of a teacher. Position i of the expert's logits is `class_names[i]`.

    `class_indices[i]` is that class's position in the teacher's own logits.
    """

    name: str
    class_indices: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.class_names)

    def to_json(self) -> dict[str, object]:
        """Return the manifest's record of the subtask."""
        return {
            "name": self.name,
            "class_names": list(self.class_names),
            "class_indices": list(self.class_indices),
        }


def find_subtask(teacher_classes: Sequence[str], names: Sequence[str], *, name: str = "subtask") -> Subtask:
    """Look the named classes up among the teacher's.

    A name counts as the teacher spells it, or, where the teacher's label lists synonyms ("tench, Tinca tinca"), as any
    one of them that belongs to one class only. Numbers are names too, never positions.

    Raises:
        UsageError: no class or only one is named, one is named twice, or one is not the teacher's.
    """
    if len(names) < 2:
        raise UsageError(
            f"A subtask needs at least two classes, and {len(names)} was given: a classifier with one class has nothing"
            " to decide. Name two or more with --classes A,B."
        )
    repeated = [each for each, count in Counter(names).items() if count > 1]
    if repeated:
        raise UsageError(
            f"The subtask names {', '.join(map(repr, repeated))} more than once; name each class once."
        )
    known = _spellings(teacher_classes)
    unknown = [each for each in names if each not in known]
    if unknown:
        raise UsageError(
            f"The teacher has no class {', '.join(map(repr, unknown))} (it has {len(teacher_classes)} classes)."
            + nearest_names(unknown[0], known)
        )
    indices = tuple(known[each] for each in names)
    if len(set(indices)) < len(indices):
        raise UsageError(
            "Two of the names given are synonyms of one class of the teacher; name each class once."
        )
    return Subtask(name=name, class_indices=indices, class_names=tuple(names))


def _spellings(teacher_classes: Sequence[str]) -> dict[str, int]:
    """Map every spelling that points to exactly one class to that class's position."""
    exact = {label: index for index, label in enumerate(teacher_classes)}
    synonyms: dict[str, list[int]] = {}
    for index, label in enumerate(teacher_classes):
        for part in {piece.strip() for piece in label.split(",") if piece.strip()}:
            synonyms.setdefault(part, []).append(index)
    unique = {part: owners[0] for part, owners in synonyms.items() if len(owners) == 1}
    return {**unique, **exact}


def named_subtask_classes(name: str) -> tuple[str, ...]:
    """Return the class names of a superclass that ships with EdgeDistill, such as `cifar100/flowers`.

    Raises:
        UsageError: the table or the superclass is unknown; the message lists the nearest.
    """
    tables = json.loads(
        resources.files("edgedistill").joinpath("superclasses.json").read_text(encoding="utf-8")
    )
    known = {
        f"{table}/{superclass}": classes
        for table, superclasses in tables.items()
        for superclass, classes in superclasses.items()
    }
    if name not in known:
        raise UsageError(f"There is no subtask {name!r}.{nearest_names(name, known)}")
    return tuple(known[name])
