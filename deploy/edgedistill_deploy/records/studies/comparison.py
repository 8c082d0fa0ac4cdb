"""The part of a comparison's record that a page shows: the methods of each task, with their accuracies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from edgedistill_deploy.classes.spelling import fold_name
from edgedistill_deploy.records.schema import Record, Share
from edgedistill_deploy.records.values import as_list, as_text

_MOST_CLASSES = 100_000


def as_class_names(value: Any) -> tuple[str, ...]:
    """Accept names of classes; of a group, which is [NAME, [MEMBER, ...]], its own name."""
    given = as_list(value)
    if len(given) > _MOST_CLASSES:
        raise ValueError(f"a task has {len(given)} classes")
    return tuple(as_text(each[0] if isinstance(each, list) and each else each) for each in given)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedTask:
    """What was compared: on which classes, and which student. `judged_by` is what accuracies are held against."""

    name: str
    classes: Annotated[tuple[str, ...], as_class_names]
    student: str
    student_width: float = 1.0
    judged_by: str = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRow:
    """One method on a task, or on all tasks (`task` is None): its mean test accuracy over `runs`, None without runs.

    `train_size` is the number of training images, None for all. `deviation` is over seeds.
    """

    task: str | None
    method: str
    train_size: int | None
    mean: Share | None
    deviation: Share | None = None
    missing: int = 0
    runs: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonStudy(Record):
    """A comparison of methods."""

    KIND = "comparison"

    tasks: tuple[ComparedTask, ...]
    rows: tuple[ComparedRow, ...]
    reference: str = ""

    def task_of(self, class_names: Sequence[str]) -> ComparedTask | None:
        """Return the task with exactly these classes, however they are spelt; None if there is none."""
        wanted = sorted(map(fold_name, class_names))
        return next((each for each in self.tasks if sorted(map(fold_name, each.classes)) == wanted), None)

    def rows_of(self, task: ComparedTask) -> tuple[ComparedRow, ...]:
        """Return the task's rows that have an accuracy, with the most training images that were tried."""
        known = [row for row in self.rows if row.task == task.name and row.mean is not None]
        sizes = [row.train_size for row in known]
        largest = None if None in sizes else max((size for size in sizes if size is not None), default=None)
        return tuple(row for row in known if row.train_size == largest)
