"""The subtask: which of the teacher's classes the expert keeps, and in which order."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from edgedistill.subtasks.imagenet import is_synset, labels_of_synsets
from edgedistill_deploy.errors import UsageError, nearest_names


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
    """Look the named classes up among the teacher's.

    A name is a label of the teacher or, where a label lists synonyms ("tench, Tinca tinca"), one synonym of
    this class alone. With a teacher of ImageNet's classes, a synset id ("n01440764") stands for the label of its class.
    Numbers are names too, never positions.

    Raises:
        UsageError: fewer than two classes are named, one is named twice, or the teacher does not have one.
    """
    names = [_label_of(each, teacher_classes) for each in names]
    if len(names) < 2:
        raise UsageError(
            f"A subtask needs at least two classes, and {len(names)} was given: a classifier with one class has nothing"
            " to decide. Name two or more with --classes A,B."
        )
    repeated = [each for each, count in Counter(names).items() if count > 1]
    if repeated:
        raise UsageError(f"The subtask names {', '.join(map(repr, repeated))} more than once; name each class once.")
    known = _spellings(teacher_classes)
    unknown = [each for each in names if each not in known]
    if unknown:
        raise UsageError(
            f"The teacher has no class {', '.join(map(repr, unknown))} (it has {len(teacher_classes)} classes)."
            + nearest_names(unknown[0], known)
        )
    indices = tuple(known[each] for each in names)
    if len(set(indices)) < len(indices):
        raise UsageError("Two of the names given are synonyms of one class of the teacher; name each class once.")
    return Subtask(name=name, class_indices=indices, class_names=tuple(names))


def _label_of(name: str, teacher_classes: Sequence[str]) -> str:
    """Return the teacher's label of a synset id; any other name stays as it is."""
    if name in teacher_classes or not is_synset(name):
        return name
    label = labels_of_synsets().get(name)
    return label if label is not None and label in teacher_classes else name


def _spellings(teacher_classes: Sequence[str]) -> dict[str, int]:
    """Return the class's position for every spelling that belongs to one class alone."""
    counts = Counter(teacher_classes)
    exact = {label: index for index, label in enumerate(teacher_classes) if counts[label] == 1}
    synonyms: dict[str, list[int]] = {}
    for index, label in enumerate(teacher_classes):
        for part in {piece.strip() for piece in label.split(",") if piece.strip()}:
            synonyms.setdefault(part, []).append(index)
    unique = {part: owners[0] for part, owners in synonyms.items() if len(owners) == 1}
    return {**unique, **exact}


def named_subtask_classes(name: str) -> tuple[str, ...]:
    """Return the class names of a superclass that ships with EdgeDistill, such as `cifar100/flowers`.

    `cifar100/` has the twenty superclasses of the data set's author (Krizhevsky 2009). `imagenet/` has eight, each with
    all ImageNet-1k classes below one synset in WordNet 3.0 (wading bird n02000954, retriever n02099029, working dog
    n02103406, domestic cat n02121808, bag n02773037, bottle n02876657, box n02883344, truck n04490091), spelled as
    timm's teachers spell them. `glyphs100/` has the groups of the embedded teacher's characters.

    Raises:
        UsageError: the table or the superclass is unknown; the message lists the nearest.
    """
    known = _read_subtasks()
    if name not in known:
        raise UsageError(f"There is no subtask {name!r}.{nearest_names(name, known)}")
    return tuple(known[name])


def named_subtasks() -> tuple[str, ...]:
    """Return the names that `named_subtask_classes` knows."""
    return tuple(_read_subtasks())


def _read_subtasks() -> dict[str, list[str]]:
    table_file = resources.files("edgedistill.subtasks").joinpath("superclasses.json")
    tables = json.loads(table_file.read_text(encoding="utf-8"))
    return {
        f"{table}/{superclass}": classes
        for table, superclasses in tables.items()
        for superclass, classes in superclasses.items()
    }
