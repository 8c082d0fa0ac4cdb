"""What is compared: tasks, methods, seeds, sizes, and the facts about the tasks' data. No torch."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from edgedistill.checks import check_above_zero, check_at_least, check_choice
from edgedistill.comparison.methods import (
    EPOCHS_TIMES,
    METHODS,
    REFERENCE,
    Methods,
    check_settings,
    is_tuned,
    is_untrained,
)
from edgedistill.comparison.subsets import balance_order
from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, images_key, split_for_subtask
from edgedistill.data.unlabelled import JudgedBy, find_purposes, judged_by, labelled_rows, open_unlabelled
from edgedistill.explanation.config import ExplainConfig
from edgedistill.models.names import (
    FOLDER,
    START_FROM_NOTHING,
    START_FROM_TIMM,
    START_UNSET,
    split_teacher_name,
    starts_from_nothing,
)
from edgedistill.models.student_names import CHANNEL_CHOICES, SHRUNK, is_shrunk
from edgedistill.subtasks.named import expand_nouns
from edgedistill_deploy.classes.groups import WantedClass, member_names_of
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.sets import ImageSet

Hash = Callable[[Path], str]
TUNE_SIZES = ("each", "first")
LAMBDAS = (0.1, 1.0, 10.0, 100.0)
_VALIDATION_IS_TEST = (
    "The source has no test split: its validation images are the test images, and a part of the training images "
    "chooses epochs and weights."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing to learn: a teacher's classes, from a source, by a student.

    Attributes:
        name: as the tables show it.
        teacher, source, student: as for `load_teacher`, `open_source` and `build_student`.
        classes: the subtask, by names of classes of the teacher and groups of them, as for `find_subtask`.
        settings: replace the defaults of `DistillConfig`; a method's settings replace these.
        student_weights: as for `find_start`; by default the student starts from nothing.
        student_channels: by what the channels of a shrunk teacher are chosen; empty for other students.
        student_width, teacher_weights, teacher_classes, teacher_pixels, image_size: as the flags of these names; empty
            or 0: none.
        allow_code: the function of a teacher `python:MODULE:FUNCTION` may be run.
        split_seed: fixes which images are held out, for all seeds.
        max_bad: as for `split_for_subtask`.
        unlabelled: as for `edgedistill.data.unlabelled.open_unlabelled`; empty: none.
    """

    name: str
    teacher: str
    source: str
    classes: tuple[WantedClass, ...]
    student: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    student_width: float = 1.0
    student_weights: str | None = None
    student_channels: str = ""
    teacher_weights: str = ""
    teacher_classes: str = ""
    teacher_pixels: str = ""
    allow_code: bool = False
    image_size: int = 0
    split_seed: int = 0
    max_bad: float | None = None
    unlabelled: str = ""

    def __post_init__(self) -> None:
        check_settings(f"The task {self.name!r}", self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonPlan:
    """Which methods are compared on which tasks, and with which budget.

    Attributes:
        tasks: every method does each of them.
        methods: {name: settings}, which replace the task's; a method that does not set `lambda_layer` is tuned. One
            with `epochs` 0 judges the student as it starts, and `epochs_times` multiplies the epochs.
        reference: every other method is compared with this one, which trains; by default SubDistill, or the first
            without it.
        seeds: each fixes initial weights, image order, augmentation and which training images are drawn.
        sizes: numbers of training images; None is all of them.
        lambdas: weights of the layer term that every tuned method tries, each in a full run.
        tune_seeds: each weight is tried with so many of the first seeds.
        tune_sizes: `each` tunes at every size, `first` at the smallest alone.
        validation_images: how many validation images choose epochs and weights; None is all of them.
        confidence: of the intervals.
        explain: how the reasons of every student that counts are compared with the teacher's, on validation images;
            None: they are not. It draws no pictures, and the task's `compute` says where the networks run.
    """

    tasks: tuple[Task, ...]
    methods: Methods = field(default_factory=lambda: dict(METHODS))
    reference: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    sizes: tuple[int | None, ...] = (None,)
    lambdas: tuple[float, ...] = LAMBDAS
    tune_seeds: int = 1
    tune_sizes: str = "each"
    validation_images: int | None = None
    confidence: float = 0.95
    explain: ExplainConfig | None = None

    def __post_init__(self) -> None:
        for label in ("tasks", "methods", "seeds", "sizes", "lambdas"):
            values = [each.name if isinstance(each, Task) else each for each in getattr(self, label)]
            if not values or len(set(values)) < len(values):
                raise UsageError(f"A comparison needs {label}, each once, and {values} was given.")
        for value in self.lambdas:
            check_above_zero("lambdas", value)
        for size in (*self.sizes, self.validation_images):
            if size is not None:
                check_at_least("A number of images", size, 1)
        check_choice("tune_sizes", self.tune_sizes, TUNE_SIZES)
        trained = tuple(name for name, settings in self.methods.items() if not is_untrained(settings))
        if not trained:
            raise UsageError(f"A comparison needs a method that trains, and {list(self.methods)} was given.")
        object.__setattr__(self, "reference", self.reference or (REFERENCE if REFERENCE in trained else trained[0]))
        check_choice("reference", self.reference, trained)
        if not 1 <= self.tune_seeds <= len(self.seeds):
            raise UsageError(
                f"tune_seeds must be from 1 to the number of seeds ({len(self.seeds)}), and {self.tune_seeds} was "
                "given."
            )
        if not 0 < self.confidence < 1:
            raise UsageError(f"confidence must be between 0 and 1, and {self.confidence} was given.")
        for name, settings in self.methods.items():
            check_settings(f"The method {name!r}", settings, extra=(EPOCHS_TIMES,))
            for task in self.tasks:
                self.config(task, name, self.seeds[0], self.lambdas[0])

    def config(self, task: Task, method: str, seed: int, weight: float | None) -> DistillConfig:
        """Return the settings of one run; a tuned method's layer term has this `weight`.

        A method that trains nothing has the task's.
        """
        own = {} if is_untrained(self.methods[method]) else dict(self.methods[method])
        times = own.pop(EPOCHS_TIMES, 1)
        tuned = {"lambda_layer": weight} if is_tuned(self.methods[method]) else {}
        config = DistillConfig(**{**task.settings, **own, **tuned, "seed": seed})
        return replace(config, epochs=times * config.epoch_count)

    def ordered_sizes(self) -> tuple[int | None, ...]:
        """Return the sizes from the smallest up; all images come last."""
        return tuple(sorted(self.sizes, key=lambda size: (size is None, size or 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """A hash of the content of a task's data and teacher, the numbers of images, and what its student starts from.

    `judged_by` is "teacher" where no test image has a label: test accuracies are then agreement with the teacher.
    """

    fingerprint: str
    train_count: int
    validation_count: int
    test_count: int
    notes: tuple[str, ...] = ()
    start: str = ""
    judged_by: JudgedBy = "labels"


def read_facts(plan: ComparisonPlan) -> dict[str, TaskFacts]:
    """Read every task's data before anything starts; {task name: facts}.

    Raises:
        UsageError: the data has fewer training or validation images than the plan asks for, or no label for a method
            that learns from labels.
        DataError: the data cannot be used.
    """
    opened, hashed = functools.cache(open_source), functools.cache(sha256_of_file)
    return {task.name: _facts(plan, task, task_images(task, None, opened), hashed) for task in plan.tasks}


def task_images(task: Task, validation_images: int | None, opened: Any = open_source) -> SubtaskImages:
    """Split a task's images; at most `validation_images` of that split are kept, balanced over the classes.

    Where a source has a validation split and no test split, as ImageNet's layout has, the validation images are the
    test images, as in the papers. A part of the training images is then held out for validation.
    """
    source = opened(task.source) if task.source else open_unlabelled(task.unlabelled)
    wanted = member_names_of(expand_nouns(task.classes))
    unlabelled = open_unlabelled(task.unlabelled, source, wanted) if task.source and task.unlabelled else None
    purposes = find_purposes(source, unlabelled)
    swapped = "validation" in purposes.sets and "test" not in purposes.sets
    if swapped:
        source = replace(source, validation=None, test=source.validation)
    images = split_for_subtask(source, task.classes, seed=task.split_seed, max_bad=task.max_bad, unlabelled=unlabelled)
    if swapped:
        images = replace(images, notes=(*images.notes, _VALIDATION_IS_TEST))
    if validation_images is None:
        return images
    order = balance_order(images.validation, f"validation|{task.split_seed}")[:validation_images]
    return replace(images, validation=images.validation.select(sorted(order)))


def _facts(plan: ComparisonPlan, task: Task, images: SubtaskImages, hashed: Hash) -> TaskFacts:
    _check_counts(task, "training", plan.sizes, images.train)
    _check_counts(task, "validation", (plan.validation_images,), images.validation)
    _require_labels(plan, task, images.train)
    content = {
        "teacher": _teacher_identity(task, hashed),
        "images": [images_key(each) for each in (images.train, images.validation, images.evaluation)],
        "validation_images": plan.validation_images,
        "split_seed": task.split_seed if plan.validation_images is not None else 0,
    }
    return TaskFacts(
        fingerprint=key_of(content),
        train_count=len(images.train),
        validation_count=min(len(images.validation), plan.validation_images or len(images.validation)),
        test_count=len(images.evaluation),
        notes=images.notes,
        start=_start_identity(task, hashed),
        judged_by=judged_by(images.evaluation),
    )


def _require_labels(plan: ComparisonPlan, task: Task, images: ImageSet) -> None:
    if len(labelled_rows(images)):
        return
    configs = {name: plan.config(task, name, plan.seeds[0], plan.lambdas[0]) for name in plan.methods}
    names = [repr(name) for name, config in configs.items() if config.lambda_task]
    if names:
        raise UsageError(
            f"{', '.join(names)} of the methods to compare learns from labels, and none of the {len(images)} training "
            f"images of {task.name!r} has a label; name the other methods with --methods, or give images in class "
            "folders."
        )


def _check_counts(task: Task, split: str, wanted: Sequence[int | None], images: ImageSet) -> None:
    for count in wanted:
        if count is not None and not len(task.classes) <= count <= len(images):
            raise UsageError(
                f"{count} {split} images were asked for; {task.name!r} has {len(images)}, and each of its"
                f" {len(task.classes)} classes needs one: name a number from {len(task.classes)} to {len(images)}."
            )


def _teacher_identity(task: Task, hashed: Hash) -> tuple[str, ...]:
    """Return the teacher's name, the hashes of its files and its pixels; weights that are fetched have a name only."""
    paths = (_teacher_file(task), Path(task.teacher_classes) if task.teacher_classes else None)
    hashes = [hashed(path) if path is not None and path.is_file() else "" for path in paths]
    # A folder's path does not matter: the same files are the same teacher.
    is_place = split_teacher_name(task.teacher)[0] in (FOLDER, "embedded")
    pixels = (task.teacher_pixels,) if task.teacher_pixels else ()
    return ("" if hashes[0] and is_place else task.teacher, *hashes, *pixels)


def _start_identity(task: Task, hashed: Hash) -> str:
    """Return what decides the start of the student, for keys; empty for a start from nothing."""
    weights = task.student_weights or START_FROM_NOTHING
    if weights == START_FROM_NOTHING or (weights == START_UNSET and _is_bare(task)):
        return ""
    if is_shrunk(task.student):
        return f"{SHRUNK}{task.student_channels or CHANNEL_CHOICES[0]}"
    place = Path(weights) / "model.safetensors" if Path(weights).is_dir() else Path(weights)
    is_file = weights not in (START_UNSET, START_FROM_TIMM) and place.is_file()
    return hashed(place) if is_file else weights


def _is_bare(task: Task) -> bool:
    return starts_from_nothing(task.student, task.student_width)


def _teacher_file(task: Task) -> Path | None:
    if task.teacher_weights:
        return Path(task.teacher_weights)
    kind, rest = split_teacher_name(task.teacher)
    if kind == "embedded":
        return Path(str(resources.files("edgedistill").joinpath("embedded", rest))) / "model.safetensors"
    return Path(rest) / "model.safetensors" if kind in (FOLDER, "transformers") else None


def key_of(described: Mapping[str, Any]) -> str:
    """Return a hash of plain values: equal content has equal keys."""
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=asdict).encode()).hexdigest()[:24]
