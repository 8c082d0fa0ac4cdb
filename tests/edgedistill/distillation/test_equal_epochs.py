"""Of epochs with the same validation accuracy, the one that is nearest to the teacher is kept."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.events import EpochRecord
from edgedistill.distillation.record import distillation_record
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from reference.small_networks import few_images, small_teacher

CLASSES = list("0123")
# The student soon answers as its untrained teacher does, always with one class, and nears it further.
CONFIG = DistillConfig(epochs=4, batch_size=16, augment="none", compute="cpu", learning_rate=3e-2, lambda_layer=0.0)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    """Both validation images are of classes that the teacher never answers with, so that all epochs are equal."""
    found = few_images(tiny_digits, CLASSES)
    return SubtaskImages(
        train=found.train.select(range(0, 80, 3)), validation=found.validation.select([0, 5]), test=None
    )


@pytest.fixture(scope="module")
def trained(teacher: Teacher, images: SubtaskImages, tmp_path_factory: pytest.TempPathFactory) -> DistillResult:
    folder = tmp_path_factory.mktemp("trained")
    student = build_student("plain:8-8", len(CLASSES))
    result = distill(teacher, student, teacher.subtask(CLASSES), images, CONFIG, folder=folder)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [asdict(each) for each in result.history]
    return result


def test_the_nearest_of_the_most_accurate_epochs_is_kept(trained: DistillResult) -> None:
    def rank(epoch: EpochRecord) -> tuple[float, float]:
        assert epoch.validation_loss is not None
        return epoch.validation_accuracy, -epoch.validation_loss

    equal = [each for each in trained.history if each.validation_accuracy == trained.validation_accuracy]
    assert len(equal) > 1, "the case needs equal epochs"
    assert trained.equal_epochs == len(equal)
    assert trained.best_epoch == max(trained.history, key=rank).epoch
    assert trained.best_epoch != equal[0].epoch, "the case needs a later epoch that is nearer"


def test_the_loss_of_the_kept_epoch_is_that_of_the_kept_student(
    trained: DistillResult, teacher: Teacher, images: SubtaskImages
) -> None:
    validation = images.validation
    pixels = torch.stack([torch.tensor(teacher.preprocess.apply(validation.read(row))) for row in range(2)])
    with torch.no_grad():
        shown = teacher.normalise()(pixels)
        p = torch.softmax(teacher.model(shown)[:, :4].double() / 4, dim=1)
        q = torch.softmax(trained.student(shown).double() / 4, dim=1)
    by_hand = 16 * float((p * (p / q).log()).sum(dim=1).mean())
    assert trained.history[trained.best_epoch].validation_loss == pytest.approx(by_hand, rel=1e-3)
    record = distillation_record(trained, images, CONFIG)
    assert record["validation_loss"] == trained.history[trained.best_epoch].validation_loss
    assert record["epochs_of_equal_accuracy"] == trained.equal_epochs
