"""What the training offers besides the method: averages, early stopping, number formats, compilation, TensorBoard."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgedistill.config import PRESETS, DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation._schedules import layer_weight_at, learning_rate_at
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from edgedistill.networks.average import build_average
from edgedistill_deploy.errors import UsageError
from reference.small_networks import few_images, small_teacher

CLASSES = list("0123")
QUICK = {"epochs": 2, "batch_size": 32, "augment": "none", "compute": "cpu"}


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def images(tiny_digits: Path) -> SubtaskImages:
    return few_images(tiny_digits, CLASSES)


def run(teacher: Teacher, images: SubtaskImages, folder: Path | None = None, **settings: object) -> DistillResult:
    config = DistillConfig(**{**QUICK, **settings})  # type: ignore[arg-type]
    student = build_student("plain:8-8", len(CLASSES))
    return distill(teacher, student, teacher.subtask(CLASSES), images, config, folder=folder)


def test_the_average_is_what_a_loop_by_hand_gives() -> None:
    student = nn.BatchNorm1d(3)
    average = build_average(student, 0.9)
    assert average is not None
    expected = copy.deepcopy(student.state_dict())
    for step in range(4):
        with torch.no_grad():
            student.weight.add_(torch.randn(3, generator=torch.Generator().manual_seed(step)))
        average.update_parameters(student)
        # The first update copies: there is nothing to average yet.
        share = 0.9 if step else 0.0
        expected["weight"] = share * expected["weight"] + (1 - share) * student.weight.detach()
    torch.testing.assert_close(average.module.state_dict()["weight"], expected["weight"])
    assert build_average(student, 0.0) is None


def test_the_average_is_what_is_kept(teacher: Teacher, images: SubtaskImages) -> None:
    plain, smoothed = run(teacher, images), run(teacher, images, ema=0.9)
    # Training itself is the same; other weights come out.
    assert [each.loss for each in plain.history] == [each.loss for each in smoothed.history]
    assert not torch.equal(plain.student.state_dict()["head.weight"], smoothed.student.state_dict()["head.weight"])


def test_early_stopping_waits_as_long_as_it_says(teacher: Teacher, images: SubtaskImages) -> None:
    # A learning rate this small changes no prediction, so the first epoch stays the best.
    stopped = run(teacher, images, epochs=9, learning_rate=1e-12, schedule="constant", early_stopping=2)
    assert (stopped.best_epoch, len(stopped.history)) == (0, 3)


@pytest.mark.parametrize("settings", [{"mixed_precision": "bf16"}, {"channels_last": True}])
def test_other_formats_train_to_about_the_same(
    teacher: Teacher, images: SubtaskImages, settings: dict[str, object]
) -> None:
    plain, other = run(teacher, images), run(teacher, images, None, **settings)
    for mine, theirs in zip(plain.history, other.history, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=0.03)
    assert all(each.dtype == torch.float32 for each in other.student.parameters())
    first = next(teacher.model.parameters())
    assert first.is_contiguous()
    assert first.dtype == torch.float32


def test_half_precision_of_gpus_is_refused_on_a_cpu(teacher: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(UsageError, match="mixed_precision = 'fp16' needs a CUDA GPU"):
        run(teacher, images, mixed_precision="fp16")


@pytest.mark.slow
def test_a_compiled_student_trains_to_about_the_same(teacher: Teacher, images: SubtaskImages) -> None:
    plain, compiled = run(teacher, images), run(teacher, images, compile_student=True)
    for mine, theirs in zip(plain.history, compiled.history, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=0.01)
        assert set(theirs.loss_layers) == set(mine.loss_layers)


def test_tensorboard_events_hold_the_metrics(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run(teacher, images, tmp_path, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [event.value for event in events.Scalars("validation_accuracy")]
    assert found == pytest.approx([each.validation_accuracy for each in result.history])
    assert f"loss_layers/{result.pairs[0].teacher}" in events.Tags()["scalars"]


def test_the_preset_is_the_papers() -> None:
    config = DistillConfig(**PRESETS["paper"])
    rates = [learning_rate_at(epoch, 100, config) for epoch in (0, 24, 25, 50, 75, 99)]
    assert rates == [1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 1.25e-4]
    assert (config.batch_size, config.weight_decay, config.temperature) == (32, 0.0, 4.0)
    assert config.lambda_layer == "auto"


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1, 1]), ("rise", [0, 0.5, 1, 1]), ("fall", [1, 0.9755, 0.9045, 0.0245])],
)
def test_the_layer_term_follows_its_schedule(schedule: str, expected: list[float]) -> None:
    config = DistillConfig(lambda_schedule=schedule)
    assert [layer_weight_at(step, 100, config) for step in (0, 10, 20, 90)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("method", ["attention-transfer", "fitnet", "vid", "vkd", "similarity"])
def test_rivals_train_in_the_same_loop(teacher: Teacher, images: SubtaskImages, method: str) -> None:
    result = run(teacher, images, epochs=1, layer_loss=method)
    assert set(result.history[0].loss_layers) == {pair.teacher for pair in result.pairs}
    assert all(value > 0 for value in result.history[0].loss_layers.values())
    assert result.subspaces == {}


def test_labels_alone_do_not_ask_the_teacher_at_any_step(teacher: Teacher, images: SubtaskImages) -> None:
    def count_answers(epochs: int, **settings: Any) -> int:
        asked: list[int] = []
        handle = teacher.model.register_forward_hook(lambda *_: asked.append(1))
        try:
            run(teacher, images, epochs=epochs, lambda_layer=0.0, **settings)
        finally:
            handle.remove()
        return len(asked)

    labels = {"lambda_kd": 0.0, "lambda_task": 1.0}
    assert count_answers(3, **labels) == count_answers(1, **labels)
    assert count_answers(3) > count_answers(1)


def test_the_patient_preset_can_be_laid_under_other_settings() -> None:
    config = DistillConfig(**{**PRESETS["patient"], "epochs": 40, "lambda_layer": 1.0})
    assert (config.mixup, config.epochs, config.lambda_layer) == (1.0, 40, 1.0)
    assert DistillConfig(**PRESETS["patient"]).lambda_layer == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_layer": "auto?"}, "lambda_layer cannot be 'auto\\?'"),
        ({"teacher_cache": "some"}, "teacher_cache must be off, auto or a number of views"),
        ({"ema": 1.0}, "ema must be a number from 0 to below 1"),
        ({"layer_loss": "fitnets"}, "layer_loss cannot be 'fitnets'. Did you mean fitnet"),
        ({"lambda_schedule": "up"}, "lambda_schedule cannot be 'up'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillConfig(**settings)  # type: ignore[arg-type]
