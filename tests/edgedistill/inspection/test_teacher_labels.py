"""Labels that do not stand in the order of the teacher's outputs are told before the training."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from command import run_command, write_quick_settings
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.inspection.teacher_labels import check_teacher_labels
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import ImageSet
from reference.small_networks import small_teacher

CLASSES = ["3", "1", "2"]  # "0" is the first label, and is lost with its line
LABELS = list(load_teacher("embedded:glyphs100").class_names)


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> ImageSet:
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES).validation


def labelled(folder: Path, labels: Sequence[str]) -> Teacher:
    """The embedded teacher with other labels for its hundred outputs."""
    path = folder / "labels.txt"
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    return load_teacher("embedded:glyphs100", classes=path)


def notes_of(teacher: Teacher, images: ImageSet) -> tuple[str, ...]:
    return check_teacher_labels(teacher, teacher.subtask(CLASSES), images)


def test_right_labels_are_passed_over(images: ImageSet) -> None:
    assert notes_of(load_teacher("embedded:glyphs100"), images) == ()


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (["__background__", *LABELS[:-1]], "the output one place before it. .* has one line too many"),
        (["n/a", "n/b", *LABELS[:-2]], "the output 2 places before it. .* has 2 lines too many"),
        ([*LABELS[1:], "last"], "the output one place after it. .* lacks one line above"),
    ],
)
def test_labels_moved_by_some_lines_are_refused(
    images: ImageSet, tmp_path: Path, labels: list[str], sentence: str
) -> None:
    with pytest.raises(UsageError, match=f"do not stand in the order of its outputs: of 45 .* {sentence}") as refused:
        notes_of(labelled(tmp_path, labels), images)
    assert f"its first line is {labels[0]!r}" in str(refused.value)


def test_the_labels_of_a_group_are_those_of_its_members(tiny_digits: Path, tmp_path: Path) -> None:
    classes = ["3", "low=1|2|5"]
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), classes).validation
    teacher = load_teacher("embedded:glyphs100")
    assert check_teacher_labels(teacher, teacher.subtask(classes), images) == ()
    moved = labelled(tmp_path, ["__background__", *LABELS[:-1]])
    with pytest.raises(UsageError, match="has one line too many above these classes"):
        check_teacher_labels(moved, moved.subtask(classes), images)


def test_labels_in_another_order_are_told_with_the_labels_that_fit(images: ImageSet, tmp_path: Path) -> None:
    first, second = notes_of(labelled(tmp_path, LABELS[::-1]), images)
    assert "not better than chance" in first
    assert "and validate will fail" in first
    wanted = LABELS[::-1]
    assert f"it answers most images of '3' as {wanted[LABELS.index('3')]!r}" in second


def test_a_teacher_that_knows_nothing_is_told(images: ImageSet) -> None:
    (note,) = notes_of(small_teacher(), images)
    assert note.startswith("the teacher is right on ")
    assert "of 45 validation images" in note


def test_distill_says_it_before_it_trains(tiny_digits: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["__background__", *LABELS[:-1]]) + "\n", encoding="utf-8")
    settings = write_quick_settings(tmp_path / "settings.toml", tiny_digits)
    run = tmp_path / "run"
    outcome = run_command("distill", "--config", settings, "--teacher-classes", labels, "--out", run)
    assert outcome.code == 2
    assert "The list of labels (--teacher-classes) has one line too many above these classes; its first line is" in (
        " ".join(outcome.stderr.split())
    )
    assert "'__background__'" in outcome.stderr
    assert not (run / "distill" / "student.safetensors").exists()
