"""What can be checked before torch is loaded: all of it is, and all problems are told in one list."""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.data.sources import why_not_counted
from edgedistill.data.splits import hint_at_empty, hint_at_unlabelled, hint_at_unread, skipped_of
from edgedistill.data.unlabelled import find_purposes, open_both
from edgedistill.models.at_hand import Missing, find_unfetchable, missing_of_student, missing_of_teacher
from edgedistill.models.libraries.files import require_start_files, require_weights_file
from edgedistill.models.libraries.forms import (
    HUB,
    check_hub_form,
    check_transformers_form,
    refuse_features,
    require_code_allowed,
    split_function,
)
from edgedistill.models.libraries.timm_names import check_timm_name
from edgedistill.models.names import FOLDER, STARTS, split_teacher_name
from edgedistill.models.student_names import PREFIX, is_shrunk, plain_widths, require_shrinkable, shrunk_share
from edgedistill.models.teacher_files import read_labels, require_labels, teacher_folder, teacher_labels
from edgedistill.models.timm_list import installed_version, is_listed, listed_outputs, listed_version, refuse_unlisted
from edgedistill.models.torchvision_list import describes_installed_torchvision, knows, weights_file
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill.subtasks.subtask import class_problems, find_subtask, is_known
from edgedistill_cli.console import Console
from edgedistill_cli.runs._room import Room, estimate_room, require_room
from edgedistill_cli.runs.folder import Run, require_startable
from edgedistill_cli.runs.inputs import find_classes, with_rest
from edgedistill_cli.settings import AUTO_ASSISTANT, RunSettings, StudentSettings, TeacherSettings
from edgedistill_cli.settings_file import SettingsError
from edgedistill_deploy.classes.groups import (
    REST_NAME,
    WantedClass,
    claim_folders,
    member_names_of,
    names_of,
    read_classes,
)
from edgedistill_deploy.classes.lookup import ClassList
from edgedistill_deploy.errors import DataError, EdgeDistillError, UsageError
from edgedistill_deploy.files.locks import require_free
from edgedistill_deploy.images.checks.limits import check_limits, describe_losses
from edgedistill_deploy.images.sets import ImageSplits

_SPLITS = ("training", "validation", "test")
_TAKING_INPUTS = {"distill", "export", "calibrate"}  # the stages that load the teacher and the images


@dataclass(slots=True, kw_only=True)
class Preflight:
    """What the checks have found so far.

    Attributes:
        errors: what is wrong, in the order in which it was found.
        notes: how the images' source was understood, and which files are no images by their names alone.
        counts: images by split and class, in the order of the subtask; empty where they could not be counted.
        unlabelled: images without a label, by split.
        room: the estimate of the room that a run takes; None for commands that make none.
        labels: the teacher's, where they were at hand, so that the classes were looked up among them.
    """

    errors: list[EdgeDistillError] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    unlabelled: dict[str, int] = field(default_factory=dict)
    room: Room | None = None
    labels: tuple[str, ...] | None = None

    @contextlib.contextmanager
    def gathering(self) -> Iterator[None]:
        """Keep the expected error that ends the block."""
        try:
            yield
        except EdgeDistillError as error:
            if str(error) not in map(str, self.errors):  # two checks can need the same setting
                self.errors.append(error)

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each problem."""
        return tuple(
            dict.fromkeys(
                problem
                for error in self.errors
                for problem in (error.problems if isinstance(error, SettingsError) else (str(error),))
            )
        )

    @property
    def all_counts(self) -> dict[str, dict[str, int]]:
        """The images by split and class, those without a label as of the class ""; empty splits are left out."""
        splits = [each for each in _SPLITS if each in self.counts or each in self.unlabelled]
        return {
            split: {**self.counts.get(split, {}), **({"": self.unlabelled[split]} if split in self.unlabelled else {})}
            for split in splits
        }

    @property
    def lacks_labels(self) -> bool:
        """Whether there are training images, and none of them has a label."""
        return "training" in self.unlabelled and "training" not in self.counts

    def require(self) -> None:
        """Raise the one error that was found as it is, and several as one UsageError that lists all problems."""
        if self.errors and len(self.problems) == 1:
            raise self.errors[0]
        if self.errors:
            lines = [f"  {each}" for each in self.problems]
            raise UsageError("\n".join([f"{len(lines)} things must change before this can run:", *lines]))

    def to_json(self) -> dict[str, Any]:
        """Return what was found, for a record."""
        return {
            "images": self.counts,
            "notes": list(self.notes),
            "unlabelled": self.unlabelled,
            "room": None if self.room is None else self.room.to_json(),
            "problems": list(self.problems),
        }


def read_for_checks(read: Callable[[], RunSettings], found: Preflight) -> RunSettings:
    """Read settings; those that are wrong are noted in `found`, and the checks go on with the rest.

    Raises:
        SettingsError: nothing can stand for what is wrong.
    """
    try:
        return read()
    except SettingsError as error:
        if error.rest is None:
            raise
        found.errors.append(error)
        return error.rest


def check_run(
    run: Run,
    stages: Sequence[str],
    found: Preflight,
    *,
    restart: bool = False,
    asks_network: bool = False,
    rivals: bool = False,
) -> None:
    """Check what the stages that are due need: the folder, the names, the images, the room on the disk.

    `rivals` are to be trained too. With `asks_network`, also whether weights that are not on this machine can be
    fetched. A process that only helps another one with the training checks nothing, since the other one does.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return
    with found.gathering():
        require_free(run.folder)
        require_startable(run.folder, run.settings, restart=restart)
    with found.gathering():
        subtask = run.settings.subtask
        run.settings.validate.allowed_among((*find_classes(subtask), *([REST_NAME] if subtask.rest else [])))
    due = [stage for stage in stages if restart or not _is_complete(run, stage)]
    if not _TAKING_INPUTS.isdisjoint(due):
        check_inputs(run.settings, run.console, found)
        if "distill" in due:
            _look_for_start(run.settings, found)
        if asks_network:
            check_weights(run.settings, found, student="distill" in due)
    found.room = estimate_room(run.settings, found.all_counts, due, run.folder, rivals=rivals)
    with found.gathering():
        require_room(found.room, run.folder)


def _is_complete(run: Run, stage: str) -> bool:
    try:
        return run.is_complete(stage)
    except EdgeDistillError:  # a damaged manifest, which the run itself refuses
        return False


def check_inputs(settings: RunSettings, console: Console, found: Preflight) -> None:
    """Check the names of the teacher, the student and the classes, and count the images of each class."""
    for teacher in (settings.teacher, *settings.teacher.others):
        with found.gathering():
            _check_teacher_name(teacher, console)
    for student in _students_of(settings):
        with found.gathering():
            _check_student_name(student, settings.teacher, console)
    with found.gathering():
        if settings.teacher.weights:
            require_weights_file(Path(settings.teacher.weights))
    if settings.subtask.classes and settings.subtask.name:
        console.say(f"note: subtask.classes decides; subtask.name = {settings.subtask.name!r} only names the subtask")
    classes: tuple[WantedClass, ...] = ()
    with found.gathering():
        classes = find_classes(settings.subtask)
    with found.gathering():
        found.labels = _labels_at_hand(settings.teacher)
        _look_in_others(classes, settings.teacher, found)
        classes = _find_in_teacher(classes, found, least=1 if settings.subtask.rest else 2)
    with found.gathering():
        named = [name for name in (settings.data.source, settings.data.unlabelled) if name]
        reasons = [reason for name in named if (reason := why_not_counted(name))]
        for reason in reasons:
            console.say(f"note: {reason}")
        if named and not reasons:
            wanted = member_names_of(classes)
            source, unlabelled = open_both(settings.data.source, settings.data.unlabelled or "", wanted)
            with found.gathering():
                classes = _add_rest(classes, settings, source, found)
            gathered = _count_images(source, unlabelled, classes, found)
            _check_losses(gathered, unlabelled, names_of(classes), settings.data.max_bad, found)
    with found.gathering():
        if found.lacks_labels:
            settings.distill.require_labels(0)


def check_weights(settings: RunSettings, found: Preflight, *, student: bool = True) -> None:
    """Note which weights of the teacher, and of the student where it matters, are not here and cannot be fetched."""
    missing: list[Missing] = []
    for teacher in (settings.teacher, *settings.teacher.others):
        if not teacher.weights:
            missing.extend(missing_of_teacher(teacher.name))
    if student and settings.student.name:
        _look_for_start(settings, found)
        for each in _students_of(settings):
            missing.extend(missing_of_student(each.name, each.weights, each.width))
    found.errors.extend(find_unfetchable(missing))


def check_place(folder: Path | None, found: Preflight, *, sharing: bool = False) -> None:
    """Check that no other command is at work in the folder; None is no folder."""
    if folder is not None:
        with found.gathering():
            require_free(folder, sharing=sharing)


def _students_of(settings: RunSettings) -> tuple[StudentSettings, ...]:
    """Return the student, and the assistant where the settings name one."""
    own = settings.student
    return (own,) if own.assistant in (None, AUTO_ASSISTANT) else (own, own.as_assistant(str(own.assistant)))


def _check_teacher_name(teacher: TeacherSettings, console: Console) -> None:
    kind, rest = split_teacher_name(teacher.name)
    if kind == "timm" and rest.startswith(HUB):
        check_hub_form(rest)
    elif kind == "timm":
        # With weights of one's own, the tag of timm's is of no use.
        _check_timm_name(rest.partition(".")[0] if teacher.weights else rest, console)
        if not teacher.weights and listed_outputs(rest) == 0:
            refuse_features(teacher.name)
    elif kind == "torchvision" and describes_installed_torchvision():
        weights_file(rest)
    elif kind == "transformers":
        check_transformers_form(rest)
    elif kind == "python":
        split_function(rest)
        require_code_allowed(teacher.name, teacher.allow_code)
    elif kind in ("embedded", FOLDER) and teacher.name:
        teacher_folder(kind, rest)


def _check_student_name(student: StudentSettings, teacher: TeacherSettings, console: Console) -> None:
    name = student.name
    if name.startswith(PREFIX):
        plain_widths(name)
    elif is_shrunk(name):
        shrunk_share(name)
        require_shrinkable(teacher.name)
    elif name:
        _check_timm_name(name.removeprefix("timm:").partition(".")[0], console)


def _look_for_start(settings: RunSettings, found: Preflight) -> None:
    """Note that the file or folder that a student starts from is not there."""
    with found.gathering():
        own = settings.student.name and not is_shrunk(settings.student.name)
        if own and settings.student.weights not in (None, *STARTS):
            require_start_files(Path(settings.student.weights))


def _check_timm_name(name: str, console: Console) -> None:
    """Look a name up in the list that ships; only a timm of another version is asked, which takes seconds."""
    if is_listed(name):
        return
    installed = installed_version()
    if installed in (None, listed_version()):
        refuse_unlisted(name)
    console.say(
        f"note: timm:{name} is not in the list of timm {listed_version()}'s models that EdgeDistill brings; timm "
        f"{installed} is asked."
    )
    check_timm_name(name)


def _labels_at_hand(teacher: TeacherSettings) -> tuple[str, ...] | None:
    """Return the teacher's labels where they can be told without torch, else None.

    A teacher that does not exist has none either: that is a problem of its own.
    """
    kind, rest = split_teacher_name(teacher.name)
    outputs = listed_outputs(rest) if kind == "timm" and not teacher.weights else None
    if teacher.classes:
        labels = read_labels(Path(teacher.classes))
        return labels if outputs is None else require_labels(teacher.name, outputs, labels)
    if kind == "timm":
        return imagenet_labels() if outputs == len(imagenet_labels()) else None
    if kind == "torchvision" and not teacher.weights and describes_installed_torchvision() and knows(rest):
        return imagenet_labels()  # of all its classifiers; it spells some of them in another way
    if kind not in ("embedded", FOLDER):
        return None
    with contextlib.suppress(EdgeDistillError, ImportError):  # timm is needed for numbers of outputs that are rare
        return teacher_labels(teacher.name)
    return None


def _find_in_teacher(classes: tuple[WantedClass, ...], found: Preflight, least: int) -> tuple[WantedClass, ...]:
    """Note which classes the teacher does not have; return the others, called as the expert will call them."""
    if found.labels is None or not classes:
        return classes
    known = ClassList(found.labels)
    if problems := class_problems(known, classes):
        found.errors.extend(map(UsageError, problems))
        return tuple(each for each in classes if is_known(known, each))
    return find_subtask(found.labels, classes, least=least).classes


def _look_in_others(classes: tuple[WantedClass, ...], teacher: TeacherSettings, found: Preflight) -> None:
    """Note which classes a teacher beside the first one does not have, where its labels are at hand."""
    for each in teacher.others:
        labels = _labels_at_hand(each)
        if labels is not None:
            problems = class_problems(ClassList(labels), classes)
            found.errors.extend(UsageError(f"{each.name}: {problem}") for problem in problems)


def _add_rest(
    classes: tuple[WantedClass, ...], settings: RunSettings, source: ImageSplits, found: Preflight
) -> tuple[WantedClass, ...]:
    """Add "something else" where the settings want it and the teacher's labels tell what it is."""
    if found.labels is None or not classes:
        return classes
    added = with_rest(classes, settings.subtask, found.labels, source)
    return read_classes(added)  # refuses a class that is called like the one added


def _count_images(
    source: ImageSplits, unlabelled: ImageSplits | None, classes: tuple[WantedClass, ...], found: Preflight
) -> ImageSplits:
    """Count the images of the classes and those without a label; note the classes that have none or too few.

    Returns the source with the names of the classes.
    """
    names, wanted = names_of(classes), member_names_of(classes)
    purposes = find_purposes(source, unlabelled, names)
    labelled = {split: images for split, images in purposes.sets.items() if purposes.has_labels(split) or not images}
    claims = claim_folders(source.class_names, classes, f"The {next(iter(labelled), 'training')} images have")
    if labelled:
        hint = hint_at_empty(source, wanted) + hint_at_unlabelled(source, wanted)
        found.errors.extend(DataError(each + hint) for each in claims.problems)
    known = tuple(name for name in names if name in claims.owners)
    owners = np.array(claims.owners, dtype=object)
    for split, images in labelled.items():
        counted = np.bincount(images.labels, minlength=len(source.class_names))
        found.counts[split] = {name: int(counted[owners == name].sum()) for name in known}
    found.unlabelled = {split: len(images) for split, images in purposes.sets.items() if split not in labelled}
    parts, gathered = _least_to_divide(purposes.sets), source.rename_classes(claims.renamed)
    found.errors.extend(_find_too_few(found.counts, parts, lambda empty: hint_at_unread(gathered, known, empty)))
    found.errors.extend(_find_too_few_unlabelled(found.unlabelled, parts))
    if purposes.beside:
        found.unlabelled["training"] = found.unlabelled.get("training", 0) + len(purposes.beside)
    return gathered


def _check_losses(
    source: ImageSplits, unlabelled: ImageSplits | None, names: Sequence[str], max_bad: float | None, found: Preflight
) -> None:
    """Note which files cannot be used by their names alone, and whether that is too many."""
    known = [name for name in names if any(name in of_classes for of_classes in found.counts.values())]
    skipped = [*skipped_of(source, known), *(unlabelled.skipped if unlabelled is not None else ())]
    used = Counter({name: sum(of_classes.get(name, 0) for of_classes in found.counts.values()) for name in known})
    used[""] = sum(found.unlabelled.values())
    found.notes = (*source.notes, *describe_losses(skipped, used))
    seen = [each for each in skipped if used[each.class_name]]  # a class without any image is told already
    check_limits(seen, used, max_bad)


def _find_too_few(
    counts: Mapping[str, Mapping[str, int]], divided: tuple[int, str], explain: Callable[[list[str]], str]
) -> Iterator[DataError]:
    for split, of_classes in counts.items():
        if empty := [name for name, count in of_classes.items() if count == 0]:
            yield DataError(
                f"The {split} images hold none of class {', '.join(map(repr, empty))}; add images or leave the class "
                f"out of the subtask.{explain(empty)}"
            )
    least, parts = divided
    if few := [f"{name!r} has {count}" for name, count in counts.get("training", {}).items() if 0 < count < least]:
        yield DataError(
            f"The images of a class are divided into {parts}, which takes {least} of each: {', '.join(few)}. Add "
            "images, or give the data as train/, val/ and test/ folders."
        )


def _find_too_few_unlabelled(counts: Mapping[str, int], divided: tuple[int, str]) -> Iterator[DataError]:
    least, parts = divided
    if counts.get("training", least) < least:
        yield DataError(
            f"The images without a label are divided into {parts}, which takes {least}, and there are "
            f"{counts['training']}. Add images, or give the data as train/, val/ and test/ folders."
        )


def _least_to_divide(splits: Collection[str]) -> tuple[int, str]:
    """Return how many training images a class needs, and the splits that are made of them."""
    if "validation" in splits:
        return 1, "training images"
    return (2, "training and validation images") if "test" in splits else (3, "training, validation and test images")
