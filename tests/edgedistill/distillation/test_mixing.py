"""Training on mixed images: the teacher sees the mixture, labels are mixed alike, and a cache changes nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.config import DistillConfig
from edgedistill.data.loader import Augmentation, Pass, open_loader
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.errors import UsageError
from reference.small_networks import few_images

CLASSES = list("0123")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    return few_images(tiny_digits, CLASSES)


def run(teacher: Teacher, images: SubtaskImages, **settings: object) -> DistillResult:
    chosen = {"epochs": 2, "batch_size": 32, "augment": "crop", "compute": "cpu", "mixup": 1.0, **settings}
    student = build_student("plain:8-8", len(CLASSES))
    return distill(teacher, student, teacher.subtask(CLASSES), images, DistillConfig(**chosen))  # type: ignore[arg-type]


def test_a_cache_of_mixed_views_gives_the_training_of_a_live_teacher(teacher: Teacher, images: SubtaskImages) -> None:
    live, cached = run(teacher, images), run(teacher, images, teacher_cache="2")
    plain = run(teacher, images, mixup=0.0)
    for mine, theirs, other in zip(live.history, cached.history, plain.history, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=2e-3)
        assert other.loss != pytest.approx(mine.loss, rel=2e-3)


def test_the_first_loss_on_labels_is_the_cross_entropy_with_the_mixed_shares(
    teacher: Teacher, images: SubtaskImages
) -> None:
    labels_alone = {"lambda_kd": 0.0, "lambda_layer": 0.0, "lambda_task": 1.0}
    count = len(images.train)
    result = run(teacher, images, epochs=1, batch_size=count, **labels_alone)
    augmentation = Augmentation(name="crop", mixup=1.0)
    shown = Pass(augmentation=augmentation, epoch=0, shuffle=True)
    ((pixels, _, indices),) = open_loader(images.train, teacher.preprocess, count, shown)
    student = build_student("plain:8-8", len(CLASSES)).train()
    with torch.no_grad():
        scores = torch.log_softmax(student(teacher.normalise()(pixels)), dim=1).double().numpy()
    expected = []
    for row, index in enumerate(indices.tolist()):
        other, share = augmentation.partner(0, index, count)
        own, theirs = (scores[row, images.train.labels[each]] for each in (index, other))
        expected.append(-(share * own + (1 - share) * theirs))
    assert result.history[0].loss_task == pytest.approx(float(np.mean(expected)), rel=1e-4)


def test_a_negative_proportion_is_refused_and_none_leaves_keys_of_before_valid() -> None:
    with pytest.raises(UsageError, match="mixup must be a number of at least 0"):
        DistillConfig(mixup=-1.0)
    assert "mixup" not in DistillConfig().deciding()
    assert DistillConfig(mixup=0.5).deciding()["mixup"] == 0.5
    assert DistillConfig(workers=4, compute="cpu").deciding() == DistillConfig().deciding()
