"""A teacher that is fed other pixels than it was trained on is told before the training, with what helps."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from command import EMBEDDED, run_command, write_quick_settings
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.inspection.teacher_pixels import GOOD, check_teacher_pixels
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet
from reference.small_networks import small_teacher

CLASSES = ["0", "1", "2", "3"]


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> ImageSet:
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES).validation


def said_of(teacher: Teacher, images: ImageSet) -> tuple[str, ...]:
    return check_teacher_pixels(teacher, teacher.subtask(CLASSES), images)


def misfed(folder: Path, **changes: Any) -> Path:
    """The embedded teacher's folder, which says something else about how images are prepared."""
    shutil.copytree(EMBEDDED / "glyphs100", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["pretrained_cfg"].update(changes)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_good_teacher_has_its_accuracy_and_interval_told(images: ImageSet) -> None:
    (sentence,) = said_of(load_teacher("embedded:glyphs100"), images)
    right = float(sentence.split("right on ")[1].split(" %")[0]) / 100
    assert right >= GOOD
    assert "of 60 validation images (interval " in sentence


def test_a_teacher_of_values_up_to_255_that_gets_values_up_to_1_stops_with_what_helps(
    images: ImageSet, tmp_path: Path
) -> None:
    wrong = load_teacher(str(misfed(tmp_path / "t", mean=[0.9] * 3, std=[100.0] * 3)))
    with pytest.raises(
        DataError, match=r"which is not better than chance, .*nothing to learn from it\. With pixels"
    ) as e:
        said_of(wrong, images)
    named = str(e.value).rpartition("give --teacher-pixels ")[2].rstrip(".")
    helped = said_of(load_teacher(str(tmp_path / "t"), pixels=named), images)
    assert float(helped[0].split("right on ")[1].split(" %")[0]) > 80


def test_images_of_another_size_are_told_with_the_size_that_helps(images: ImageSet) -> None:
    teacher = load_teacher("embedded:glyphs100")
    tiny, small = (replace(teacher, preprocess=replace(teacher.preprocess, size=(side, side))) for side in (8, 16))
    with pytest.raises(DataError, match=r"With images of 64 x 64 it is right on 9\d\.\d %: give --image-size 64\."):
        said_of(tiny, images)
    beside, advice = said_of(small, images)  # better than chance: told, and not stopped
    assert "; on 60 of them: 9" in beside
    assert advice == "images are not prepared as the teacher was trained: give --image-size 64"


def test_a_teacher_that_nothing_helps_stops_too(images: ImageSet) -> None:
    with pytest.raises(DataError, match="No other order of colours, scaling or size helps; check that its labels"):
        said_of(small_teacher(), images)


def test_distill_stops_before_it_trains(tiny_digits: Path, tmp_path: Path) -> None:
    folder = misfed(tmp_path / "t", mean=[0.9] * 3, std=[100.0] * 3)
    settings = write_quick_settings(tmp_path / "settings.toml", tiny_digits)
    outcome = run_command("distill", "--config", settings, "--teacher", folder, "--out", tmp_path / "run")
    assert outcome.code == 1
    assert "give --teacher-pixels " in " ".join(outcome.stderr.split())
    assert not (tmp_path / "run" / "distill" / "student.safetensors").exists()
