"""What the stages of a run share: teacher, subtask, images and the student."""

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.models.student_names import CHANNEL_CHOICES, is_shrunk, shrunk_share
from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import KNOWN_LOOKS, SKIPPED, Run
from edgedistill_cli.settings import RunSettings, SubtaskSettings, TeacherSettings
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import make_folder, write_text
from edgedistill_deploy.progress import noted
from edgedistill_deploy.records.parity import ParityLimits

if TYPE_CHECKING:
    from edgedistill.data.splits import SubtaskImages
    from edgedistill.distillation.lesson import Guide, Lesson
    from edgedistill.models.start import Start, StartRecord
    from edgedistill.models.student import Student
    from edgedistill.models.teacher import Teacher
    from edgedistill.subtasks.subtask import Subtask
    from edgedistill_deploy.classes.groups import WantedClass
    from edgedistill_deploy.images.sets import ImageSet, ImageSplits
    from edgedistill_deploy.images.skipped import SkippedFile


START = "start"  # the role of a shrunk teacher's weights before the training


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What training and export share."""

    teacher: "Teacher"
    subtask: "Subtask"
    source: "ImageSplits"
    images: "SubtaskImages"


def find_classes(subtask: SubtaskSettings) -> "tuple[WantedClass, ...]":
    """Return the subtask's classes, without "something else"; groups have the names of all their members.

    Raises:
        UsageError: there is no such subtask, or a group cannot be read.
    """
    from edgedistill.subtasks.named import expand_nouns, named_subtask_classes

    return expand_nouns(subtask.classes or named_subtask_classes(subtask.name))


def with_rest(
    classes: "tuple[WantedClass, ...]", subtask: SubtaskSettings, labels: "Sequence[str]", source: "ImageSplits"
) -> "tuple[WantedClass, ...]":
    """Return the classes of `find_classes` with "something else", where the settings want it.

    Raises:
        DataError: a teacher with these labels has no other classes, or the source has no images of them.
    """
    from edgedistill.data.groups import count_images
    from edgedistill.subtasks.rest import find_rest

    if not subtask.rest:
        return classes
    folders = [name for name, count in count_images(source).items() if count]
    return (*classes, find_rest(labels, classes, folders))


def load_run_teacher(teacher: TeacherSettings, image_size: int | None = None) -> "Teacher":
    """Load the teacher that the settings name; `image_size` is in pixels, None for the teacher's own."""
    from edgedistill.models.teacher import load_teacher

    return load_teacher(
        teacher.name,
        weights=Path(teacher.weights) if teacher.weights else None,
        classes=Path(teacher.classes) if teacher.classes else None,
        image_size=image_size,
        pixels=teacher.pixels or "",
        allow_code=teacher.allow_code,
    )


def load_inputs(run: Run, kept: Path | None = None) -> Inputs:
    """Load the teacher, find the subtask among its classes and the subtask's images in the data.

    `kept` is the file for what was found in the images; see `split_for_subtask`.
    """
    from edgedistill.data.splits import split_for_subtask
    from edgedistill.data.unlabelled import describe_unlabelled, open_both
    from edgedistill.models.student import check_student_name
    from edgedistill_deploy.classes.groups import member_names_of

    settings = run.settings
    # Checked first: loading the teacher and reading every image take long.
    if settings.student.name:
        check_student_name(settings.student.name)
    with run.console.progress("load") as report:
        teacher = load_run_teacher(settings.teacher, settings.data.image_size or None)
        classes = find_classes(settings.subtask)
        unlabelled_name = settings.data.unlabelled or ""
        source, unlabelled = open_both(settings.data.source, unlabelled_name, member_names_of(classes))
        classes = with_rest(classes, settings.subtask, teacher.class_names, source)
        subtask = teacher.subtask(classes, name=settings.subtask.name or "subtask")
        images = split_for_subtask(
            source,
            subtask.classes,
            seed=settings.distill.seed,
            max_bad=settings.data.max_bad,
            progress=noted(report, "images"),
            kept=kept,
            unlabelled=unlabelled,
        )
    sets = {"training": images.train, "validation": images.validation, "test": images.test}
    counts = [f"{len(each)} {split}{describe_unlabelled(each)}" for split, each in sets.items() if each is not None]
    run.console.say(f"{len(subtask)} classes; {', '.join(counts)}{'' if images.test else ', 0 test'} images")
    for note in (*teacher.notes, *images.notes, *_warn_of_few(images, settings.validate)):
        run.console.say(f"note: {note}")
    return Inputs(teacher=teacher, subtask=subtask, source=source, images=images)


def say_first_teacher(settings: RunSettings, console: Console) -> None:
    """Say that only the first of several teachers matters here."""
    if settings.teacher.beside:
        console.say(f"note: only the first teacher matters here, {settings.teacher.name}")


def open_lesson(run: Run, given: Inputs) -> "Lesson":
    """Return what the student learns, with the teachers beside the first one, which are loaded here."""
    from edgedistill.distillation.lesson import Lesson

    return Lesson(teacher=given.teacher, subtask=given.subtask, images=given.images, beside=_load_beside(run, given))


def _load_beside(run: Run, given: Inputs) -> "tuple[Guide, ...]":
    """Load the teachers that stand beside the first one, at its image size, and find the subtask in each.

    Raises:
        UsageError: one of them cannot be loaded, or lacks a class.
    """
    from edgedistill.distillation.lesson import Guide

    height, width = given.teacher.preprocess.size
    size = height if height == width else None
    found = []
    for each in run.settings.teacher.others:
        with run.console.progress(f"load {each.name}"):
            teacher = load_run_teacher(each, size)
        with _naming(each.name):
            subtask = teacher.subtask(given.subtask.classes, name=given.subtask.name)
        found.append(Guide(teacher=teacher, subtask=subtask))
        run.console.say(f"teacher {each.name} beside {given.teacher.name}: its answers are weighed image by image")
        for note in teacher.notes:
            run.console.say(f"note: {note}")
    return tuple(found)


@contextlib.contextmanager
def _naming(teacher: str) -> Iterator[None]:
    """Say in an error of usage which of several teachers it is about."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{teacher}: {error}") from error


def _warn_of_few(images: "SubtaskImages", limits: ParityLimits) -> Iterator[str]:
    """Say before the training that so few images without labels judge the expert that it cannot pass."""
    from edgedistill.data.unlabelled import judged_by
    from edgedistill_deploy.statistics.paired import images_to_bound

    count, least = len(images.evaluation), limits.agreement_limit(0)
    needed = images_to_bound(count, count, least, limits.confidence) if least else None
    if needed is not None and count < needed and judged_by(images.evaluation) == "teacher":
        yield (
            f"{count} images without labels judge the expert, and even if all are answered as by the teacher, it takes "
            f"{needed} to show an agreement of {least:g}; give more images, or a lower --min-agreement."
        )


def check_teacher(inputs: Inputs, console: Console) -> tuple[str, ...]:
    """Ask the teacher about a few images, and say how well it answers those with labels, and what it sees in others.

    Returns what it sees in images without labels, in sentences.

    Raises:
        UsageError: its labels do not stand in the order of its outputs.
        DataError: it is at chance, so there is nothing to learn from it.
    """
    from edgedistill.inspection.teacher_labels import check_teacher_labels
    from edgedistill.inspection.teacher_pixels import check_teacher_pixels
    from edgedistill.inspection.teacher_view import describe_teacher_view

    split, images = _find_judging(inputs.images)
    if images is None:
        console.say("teacher: not checked, because no image has a label")
    else:
        for note in check_teacher_labels(inputs.teacher, inputs.subtask, images, split):
            console.say(f"note: {note}")
        for sentence in check_teacher_pixels(inputs.teacher, inputs.subtask, images, split):
            console.say(f"teacher: {sentence}")
    seen = describe_teacher_view(inputs.teacher, inputs.subtask, inputs.images.train)
    for sentence in seen:
        console.say(f"note: {sentence}")
    return seen


def _find_judging(images: "SubtaskImages") -> "tuple[str, ImageSet | None]":
    """Return the held-out images that tell how well the teacher answers: those for validation, if they have labels."""
    from edgedistill.data.unlabelled import judged_by

    sets = {"validation": images.validation, "test": images.test}
    return next(((split, each) for split, each in sets.items() if each and judged_by(each) == "labels"), ("", None))


def load_and_list_inputs(run: Run) -> Inputs:
    """Load the inputs, and list in the run folder which files of the subtask's classes are not used, and why."""
    from edgedistill_deploy.images.checks.limits import UnusableImagesError

    listed = run.folder / SKIPPED
    try:
        inputs = load_inputs(run, run.folder / KNOWN_LOOKS)
    except UnusableImagesError as error:
        _write_skipped(listed, error.skipped)
        raise UnusableImagesError(f"{error} {listed} lists them.", error.skipped) from error
    if inputs.images.skipped:
        _write_skipped(listed, inputs.images.skipped)
        run.console.say(f"note: {listed} lists the files that are not used.")
    else:
        listed.unlink(missing_ok=True)
    return inputs


def _write_skipped(path: Path, skipped: "Sequence[SkippedFile]") -> None:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(("file", "class", "reason", "lost"))
    rows.writerows((each.path, each.class_name, each.reason, "yes" if each.lost else "no") for each in skipped)
    write_text(path, table.getvalue())


def find_run_start(run: Run) -> "Start":
    """Find what the student of this run starts from; weights that are not here are fetched or missed at once."""
    from edgedistill.models.start import find_start
    from edgedistill.models.student import check_student_name

    student = run.settings.student
    check_student_name(student.name)
    return find_start(student.name, student.weights, student.width)


def begin_run_student(run: Run, inputs: Inputs, start: "Start") -> "tuple[Student, StartRecord]":
    """Build the student of this run as it starts, and the record of its start."""
    from edgedistill.models.start import begin_student

    if is_shrunk(run.settings.student.name):
        return _kept_shrunk(run, inputs) or _shrink_run_teacher(run, inputs, start)
    student = build_run_student(run, inputs)
    aliases = inputs.teacher.aliases(inputs.subtask)
    return student, begin_student(student, start, aliases, inputs.teacher.preprocess.size)


def _shrink_run_teacher(run: Run, inputs: Inputs, start: "Start") -> "tuple[Student, StartRecord]":
    from edgedistill.shrinking.shrinking import shrink_teacher

    wanted = run.settings.student
    with run.console.progress("shrink") as report:
        made = shrink_teacher(
            inputs.teacher,
            inputs.subtask,
            inputs.images.train,
            shrunk_share(wanted.name),
            channels=wanted.channels or CHANNEL_CHOICES[0],
            start=start,
            seed=run.settings.distill.seed,
            progress=noted(report, "images"),
        )
    return made.network, made.start


def keep_shrunk(run: Run, student: "Student") -> None:
    """Keep a shrunk teacher as it starts, and its shape: another process, or a later one, would choose anew."""
    from edgedistill.models.student import write_student
    from edgedistill.shrinking.shape import noted_shape

    shape, path = noted_shape(student), run.folder / "distill" / f"{START}.safetensors"
    if shape is None:
        return
    make_folder(path.parent)
    write_student(student, path, run.folder)
    run.bundle.with_file(START, path).with_fields(shrunk=shape.to_json())


def _kept_shrunk(run: Run, inputs: Inputs) -> "tuple[Student, StartRecord] | None":
    """Return what `keep_shrunk` kept of this run, if anything."""
    from edgedistill.models.start import StartRecord, mark_started
    from edgedistill.models.student import read_student

    if not (run.folder / "manifest.json").is_file() or not run.bundle.has(START):
        return None
    student, record = read_student(build_run_student(run, inputs), run.bundle.file(START)), run.bundle.manifest
    mark_started(student, record["student_start"])
    return student, StartRecord.from_json(record["student_start"])


def read_run_student(run: Run, inputs: Inputs) -> "Student":
    """Build the student of this run as it was trained; the weights that it started from are not needed again."""
    from edgedistill.models.start import mark_started
    from edgedistill.models.student import read_student

    student = read_student(build_run_student(run, inputs), run.bundle.file("student"))
    mark_started(student, run.bundle.manifest.get("student_start", {}))
    return student


def build_run_student(run: Run, inputs: Inputs, seed: int | None = None) -> "Student":
    """Build the architecture of this run's student with random weights; `seed` is the run's own by default."""
    from edgedistill.models.student import build_student
    from edgedistill.shrinking.shape import ShrunkShape

    seed = run.settings.distill.seed if seed is None else seed
    if is_shrunk(run.settings.student.name):
        shape = ShrunkShape.from_json(run.bundle.manifest.get("shrunk"))
        return shape.build(len(inputs.subtask), inputs.teacher.preprocess.size, seed)
    return build_student(
        run.settings.student.name,
        len(inputs.subtask),
        width=run.settings.student.width,
        image_size=inputs.teacher.preprocess.size,
        seed=seed,
    )
