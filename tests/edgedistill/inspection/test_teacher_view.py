"""What the teacher sees in images without a label is counted by class, with those of none of the classes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.data.unlabelled import without_labels
from edgedistill.inspection.accuracy import tally
from edgedistill.inspection.config import InspectConfig
from edgedistill.inspection.inspecting import inspect_subspaces
from edgedistill.inspection.teacher_view import describe_teacher_view
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet
from reference.small_networks import few_images, small_teacher


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


@pytest.fixture(scope="module")
def digits(tiny_digits: Path) -> ImageSet:
    """60 validation images of the classes 0 to 3."""
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), list("0123")).validation


def chosen_by(teacher: Teacher, images: ImageSet) -> list[str]:
    """Return the label of the teacher's largest output for each image, one image after another."""
    names = []
    for row in range(len(images)):
        pixels = torch.tensor(teacher.preprocess.apply(images.read(row)))[None]
        with torch.no_grad():
            names.append(teacher.class_names[int(teacher.model(teacher.normalise()(pixels)).argmax())])
    return names


def test_the_counts_are_those_of_the_teachers_largest_outputs(teacher: Teacher, digits: ImageSet) -> None:
    subtask = teacher.subtask(["0", "1", "2"])
    first, *others = describe_teacher_view(teacher, subtask, without_labels(digits, ["0", "1", "2"]))
    chosen = chosen_by(teacher, digits)
    zeros, ones = chosen.count("0"), chosen.count("1")
    none = len(digits) - zeros - ones - chosen.count("2")
    assert first.startswith("of 60 images without a label the teacher sees: ")
    assert f"0: {zeros}" in first
    assert f"1: {ones}" in first
    assert f"; {none} ({100 * none / 60:.1f} %) look to it like none of the classes" in first
    assert others == [], "a quarter of the images shows 3, and that is not most of them"


def test_a_class_that_the_teacher_never_sees_is_named(teacher: Teacher, digits: ImageSet) -> None:
    absent = sorted(set("56789") - set(chosen_by(teacher, digits)))[:2]
    told = describe_teacher_view(teacher, teacher.subtask(["0", *absent]), without_labels(digits, ["0", *absent]))
    assert any(f"the teacher sees none of {', '.join(map(repr, absent))} in the images" in each for each in told)
    assert any("most images without a label look to the teacher like none of the classes" in each for each in told)


def test_labelled_images_are_not_asked_about(teacher: Teacher, digits: ImageSet) -> None:
    assert describe_teacher_view(teacher, teacher.subtask(list("0123")), digits) == ()


def test_an_image_without_a_label_counts_by_the_teachers_own_answer() -> None:
    labels = torch.tensor([0, NO_LABEL, NO_LABEL, 1])
    found = tally(torch.tensor([0, 1, 0, 0]), torch.tensor([1, 1, 1, 1]), labels)
    assert (found.size, found.right, found.agreeing, found.lost, found.gained) == (4, 2, 1, 2, 1)


def test_an_inspection_without_labels_measures_agreement(tiny_digits: Path) -> None:
    teacher, images = small_teacher(), few_images(tiny_digits, list("0123"))
    bare = SubtaskImages(train=without_labels(images.train, list("0123")),
                         validation=without_labels(images.validation, list("0123")), test=None)  # fmt: skip
    config = InspectConfig(ks=(2,), layers=("layer3",), methods=("prca",), compute="cpu")
    found = inspect_subspaces(teacher, teacher.subtask(list("0123")), bare, config)
    assert (found.judged_by, found.teacher_accuracy) == ("teacher", 1.0)
    assert found.to_json()["judged_by"] == "teacher"
    [point] = found.layers[0].accuracy_at_k["prca"]
    assert point.accuracy == point.agreement
    assert np.isfinite(point.drop_interval).all()
