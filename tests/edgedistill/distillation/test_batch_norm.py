"""The running statistics of batch normalisation: a trained student's are kept, and all others follow the images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.distillation.subdistill import distill
from edgedistill.models.start import knows_classes, mark_started
from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import UsageError

CLASSES = ("0", "1", "2", "3")
TRAINED = {"weights": "mine.safetensors", "weights_sha256": "0" * 64, "mean": (0.5,) * 3, "std": (0.5,) * 3}


def statistics(network: nn.Module) -> list[Tensor]:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    kept = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var)]
    return [tensor.clone() for tensor in kept if tensor is not None]


def scales(network: nn.Module) -> list[Tensor]:
    return [module.weight.detach().clone() for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize(
    ("trained", "mode", "kept"),
    [(True, None, True), (True, "auto", True), (True, "update", False), (False, None, False), (False, "frozen", True)],
)
def test_whose_statistics_are_kept(tiny_digits: Path, trained: bool, mode: str | None, kept: bool) -> None:
    teacher = load_teacher("embedded:glyphs100")
    student = build_student("plain:4-4", len(CLASSES))
    if trained:
        mark_started(student, TRAINED)
    before, shapes = statistics(student), scales(student)
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES)
    config = DistillConfig(epochs=1, compute="cpu", augment="none", batch_norm=mode)
    result = distill(teacher, student, teacher.subtask(CLASSES), images, config)
    assert all(map(torch.equal, before, statistics(result.student))) == kept
    assert not all(map(torch.equal, shapes, scales(result.student)))


def test_a_shrunk_teachers_statistics_follow_the_images() -> None:
    config = DistillConfig()
    assert config.for_start(is_trained=True).batch_norm == "frozen"
    assert config.for_start(is_trained=True, is_shrunk=True).batch_norm is None
    assert DistillConfig(batch_norm="frozen").for_start(is_trained=True, is_shrunk=True).batch_norm == "frozen"


def test_who_knows_the_classes_learns_slowly() -> None:
    student = build_student("plain:4-4", len(CLASSES))
    known = [knows_classes(student)]
    for rows in (0, 3, 4):
        mark_started(student, {**TRAINED, "head_rows": rows, "head_classes": 4})
        known.append(knows_classes(student))
    assert known == [False, False, False, True]
    config = DistillConfig()
    assert config.for_start(is_trained=False).learning_rate == 3e-3
    assert config.for_start(is_trained=True).learning_rate == 1e-3
    assert config.for_start(is_trained=True, knows_classes=True).learning_rate == 1e-4
    assert config.for_start(is_trained=True, knows_classes=True, is_shrunk=True).learning_rate == 1e-3
    assert DistillConfig(learning_rate=0.5).for_start(is_trained=True, knows_classes=True).learning_rate == 0.5


def test_auto_epochs_suit_the_start(tiny_digits: Path) -> None:
    teacher = load_teacher("embedded:glyphs100")
    student = build_student("plain:4-4", len(CLASSES))
    mark_started(student, {**TRAINED, "head_rows": 4, "head_classes": 4})
    images = split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES)
    config = DistillConfig(compute="cpu", augment="none")
    assert len(distill(teacher, student, teacher.subtask(CLASSES), images, config).history) == 6
    assert config.for_start(is_trained=True, knows_classes=True, is_shrunk=True).epochs == 30
    assert config.for_start(is_trained=True).epochs == config.for_start(is_trained=False).epochs == 30
    assert config.epoch_count == 30
    assert DistillConfig(epochs=2).for_start(is_trained=True, knows_classes=True).epochs == 2


def test_a_mode_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="batch_norm"):
        DistillConfig(batch_norm="eval")
