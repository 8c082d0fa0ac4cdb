"""Training under several teachers: what each of them decides, with and without a cache, labels and mixing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import without_labels
from edgedistill.distillation.lesson import Guide
from edgedistill.distillation.record import distillation_record
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.losses.several_teachers import mix_teachers
from edgedistill.losses.subspace_loss import distillation_loss
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from reference.small_networks import few_images, small_network, small_teacher

CLASSES = list("0123")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def other() -> Teacher:
    """Another network with other pixels, and its classes in another order."""
    names = tuple(reversed("0123456789"))
    model = small_network("lcnet", classes=10).eval()
    return replace(small_teacher(), name="other", model=model, class_names=names, mean=(0.4, 0.4, 0.4))


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    found = few_images(tiny_digits, CLASSES)
    return SubtaskImages(train=found.train.select(range(0, 80, 3)), validation=found.validation, test=None)


def guide(teacher: Teacher) -> Guide:
    return Guide(teacher=teacher, subtask=teacher.subtask(CLASSES))


def run(
    teacher: Teacher, images: SubtaskImages, *beside: Teacher, folder: Path | None = None, **settings: object
) -> DistillResult:
    chosen = {"epochs": 2, "batch_size": 32, "augment": "crop", "compute": "cpu", **settings}
    config = DistillConfig(**chosen)  # type: ignore[arg-type]
    student = build_student("plain:8-8", len(CLASSES))
    others = [guide(each) for each in beside]
    return distill(teacher, student, teacher.subtask(CLASSES), images, config, folder=folder, beside=others)


def test_the_first_loss_is_the_divergence_from_the_mixture(
    teacher: Teacher, other: Teacher, images: SubtaskImages
) -> None:
    count = len(images.train)
    result = run(teacher, images, other, epochs=1, batch_size=count, augment="none", lambda_layer=0.0)
    pixels = torch.stack([torch.tensor(teacher.preprocess.apply(images.train.read(row))) for row in range(count)])
    student = build_student("plain:8-8", len(CLASSES)).train()
    with torch.no_grad():
        logits = [
            each.model(each.normalise()(pixels))[:, [each.class_names.index(name) for name in CLASSES]]
            for each in (teacher, other)
        ]
        mixed = mix_teachers(logits, torch.tensor(images.train.labels), 4.0)
        expected = distillation_loss(student(teacher.normalise()(pixels)), mixed, 4.0)
    assert result.history[0].loss_kd == pytest.approx(float(expected), rel=1e-4)


def test_a_second_teacher_that_is_the_first_one_changes_nothing(teacher: Teacher, images: SubtaskImages) -> None:
    alone = run(teacher, images, epochs=1, lambda_layer=0.0)
    doubled = run(teacher, images, replace(teacher, name="twin"), epochs=1, lambda_layer=0.0)
    assert doubled.history[0].loss == pytest.approx(alone.history[0].loss, rel=1e-4)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_a_cache_gives_the_training_of_live_teachers(
    teacher: Teacher, other: Teacher, images: SubtaskImages, mixup: float
) -> None:
    live = run(teacher, images, other, mixup=mixup)
    cached = run(teacher, images, other, mixup=mixup, teacher_cache="2")
    for mine, theirs in zip(live.history, cached.history, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=2e-3)


def test_the_first_teacher_gives_the_layers_and_the_reference(
    teacher: Teacher, other: Teacher, images: SubtaskImages
) -> None:
    bare = SubtaskImages(
        train=without_labels(images.train, CLASSES), validation=without_labels(images.validation, CLASSES), test=None
    )
    alone, both = run(teacher, bare, epochs=1), run(teacher, bare, other, epochs=1)
    assert both.pairs == alone.pairs
    assert all(torch.equal(both.subspaces[name].basis, alone.subspaces[name].basis) for name in alone.subspaces)
    assert both.history[0].loss_kd != alone.history[0].loss_kd, "unlabelled images are weighed too"
    pixels = [torch.tensor(teacher.preprocess.apply(bare.validation.read(row))) for row in range(len(bare.validation))]
    with torch.no_grad():
        shown = torch.stack(pixels)
        first = teacher.model(teacher.normalise()(shown))[:, :4].argmax(1)
        given = both.student(teacher.normalise()(shown)).argmax(1)
    assert both.validation_accuracy == pytest.approx(float((first == given).float().mean()))


def test_the_record_names_the_teachers_and_is_silent_about_a_single_one(
    teacher: Teacher, other: Teacher, images: SubtaskImages
) -> None:
    result = run(teacher, images, other, epochs=1)
    record = distillation_record(result, images, DistillConfig(), beside=[guide(other)])
    assert record["teachers_beside"] == [{"name": "other", "weights_sha256": ""}]
    assert any("also learnt from other, weighed image by image" in note for note in record["notes"])
    assert "teachers_beside" not in distillation_record(result, images, DistillConfig())


def test_a_run_goes_on_with_the_same_teachers_alone(
    teacher: Teacher, other: Teacher, images: SubtaskImages, tmp_path: Path
) -> None:
    first = run(teacher, images, other, epochs=1, folder=tmp_path, lambda_layer=0.0)
    again = run(teacher, images, other, epochs=1, folder=tmp_path, lambda_layer=0.0)
    assert [each.loss for each in again.history] == [each.loss for each in first.history]
    with pytest.raises(EdgeDistillError, match="belongs to a run with other settings or images"):
        run(teacher, images, epochs=1, folder=tmp_path, lambda_layer=0.0)


def test_teachers_that_cannot_help_are_refused(teacher: Teacher, other: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(UsageError, match="lambda_kd = 0 leaves that out; give one --teacher"):
        run(teacher, images, other, lambda_kd=0.0)
    with pytest.raises(UsageError, match="as the first one does, at 64 x 64 pixels, and wide takes 32 x 48"):
        run(teacher, images, replace(other, name="wide", preprocess=Preprocess(size=(32, 48))))
    fewer = Guide(teacher=other, subtask=other.subtask(CLASSES[:2]))
    with pytest.raises(UsageError, match="The teacher other was asked for other classes than small"):
        distill(teacher, build_student("plain:8-8", 4), teacher.subtask(CLASSES), images, beside=[fewer])
