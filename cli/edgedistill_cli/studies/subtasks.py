"""Which named subtasks there are, and what of them a teacher has."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.subtasks.named import NamedSubtask, named_subtasks, search_subtasks
from edgedistill_cli.console import Console
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import UsageError

_FEW = 3  # so many subtasks are shown with all their classes
_FIRST = 5  # classes of each, where there are more subtasks


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A named subtask; `classes` are those that the teacher has, all where no teacher is named."""

    subtask: NamedSubtask
    classes: tuple[str, ...]

    @property
    def count(self) -> str:
        """How many classes there are, and of how many."""
        every = len(self.subtask.classes)
        return str(every) if len(self.classes) == every else f"{len(self.classes)} of {every}"


def find_offers(text: str, teacher: str, teacher_classes: Path | None) -> tuple[Offer, ...]:
    """Return the subtasks that a text finds (all where it is empty) with at least two classes of a teacher.

    Raises:
        UsageError: there are none, or no such teacher.
    """
    known = search_subtasks(text) if text else named_subtasks()
    if not known:
        raise UsageError(
            f"No subtask has {text!r} in a name, and none has a class that is called so. `edgedistill subtasks` lists "
            "all of them."
        )
    if not teacher and teacher_classes is None:
        return tuple(Offer(subtask=each, classes=each.classes) for each in known)
    classes = _teacher_classes(teacher, teacher_classes)
    offers = [Offer(subtask=each, classes=_held(each, classes)) for each in known]
    held = tuple(each for each in offers if len(each.classes) > 1)
    if not held:
        raise UsageError(
            f"The teacher has two classes or more of none of the {len(known)} subtasks found. Name its classes with "
            "--classes A,B,C instead."
        )
    return held


def _teacher_classes(teacher: str, file: Path | None) -> ClassList:
    from edgedistill.models.teacher_files import teacher_labels

    return ClassList(teacher_labels(teacher, file))


def _held(subtask: NamedSubtask, teacher: ClassList) -> tuple[str, ...]:
    return tuple(each for each in subtask.classes if teacher.find(each) is not None)


def subtasks_record(offers: Sequence[Offer], text: str | None, teacher: str | None) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "kind": "subtasks",
        "schema": 1,
        "text": text,
        "teacher": teacher,
        "subtasks": [
            {
                "name": each.subtask.name,
                "also": list(each.subtask.also),
                "classes": list(each.classes),
                "class_count": len(each.subtask.classes),
            }
            for each in offers
        ],
    }


def show_offers(offers: Sequence[Offer], console: Console) -> None:
    """Print a few subtasks with all their classes, or many with their first."""
    if len(offers) > _FEW:
        for each in offers:
            console.result(f"{each.subtask.name} ({each.count}): {_short(each.classes, _FIRST)}")
        return
    for each in offers:
        also = f", also {', '.join(each.subtask.also)}" if each.subtask.also else ""
        console.result(f"{each.subtask.name}{also}: {each.count} classes")
        console.result("".join(f"  {name}\n" for name in each.classes).rstrip("\n"))
        name = each.subtask.name
        console.result(f'as one class of all of them: --classes "{name.partition("/")[2]}={name},..."')


def _short(classes: Sequence[str], most: int) -> str:
    first = [label if _has_own_id(label) else label.partition(",")[0] for label in classes[:most]]
    return ", ".join(first) + (", ..." if len(classes) > most else "")


def _has_own_id(label: str) -> bool:
    return label.count(",") == 1 and label.rpartition(", n")[2].isdigit()
