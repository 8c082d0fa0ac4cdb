"""One batch is tried before the run begins: what cannot be trained is said in a sentence, and nothing is changed."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from edgedistill.compute.accelerator import open_accelerator
from edgedistill.config import DistillConfig
from edgedistill.data.loader import Pass, Share, batch_shares, open_loader
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.distillation.events import TrainingProgress
from edgedistill.distillation.lesson import Lesson
from edgedistill.distillation.subdistill import _try_batches, distill
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from reference.small_networks import small_teacher

CLASSES = list("0123")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def images(tiny_digits: object) -> SubtaskImages:
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES)


def network(*before_head: nn.Module) -> nn.Module:
    """A student whose layers end in one value a channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4), nn.AdaptiveAvgPool2d(1), *before_head, nn.Flatten(), nn.Linear(8, len(CLASSES))
    )


class OutOfMemory(nn.Module):
    """Fails as torch does on a machine with little memory."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(
            f"[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate {2**60} bytes"
        )


def attempt(teacher: Teacher, images: SubtaskImages, student: nn.Module, batch_size: int) -> None:
    """Distil; nothing may happen before the trial."""

    def watch(at: TrainingProgress) -> None:
        raise AssertionError(f"{at.phase} began")

    config = DistillConfig(epochs=1, batch_size=batch_size, compute="cpu")
    distill(teacher, student, teacher.subtask(CLASSES), images, config, progress=watch)


@pytest.mark.parametrize(
    ("student", "batch_size", "message"),
    [
        (
            lambda: network(nn.BatchNorm2d(8)),
            1,
            r"The student cannot train on a batch of 1 images of 64 x 64: batch normalisation at 2 gets a single value",
        ),
        (
            lambda: network(nn.Conv2d(8, 8, 5)),
            16,
            r"The student does not take images of 64 x 64 at 2: .*Kernel size.* Give another --image-size",
        ),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(7, 4)),
            16,
            r"The student does not take images of 64 x 64 at 1: mat1 and mat2 shapes cannot be multiplied",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_begins(
    teacher: Teacher, images: SubtaskImages, student: Callable[[], nn.Module], batch_size: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        attempt(teacher, images, student(), batch_size)


def test_too_little_memory_names_the_batch_and_the_flag(teacher: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(
        EdgeDistillError,
        match=r"A batch of 16 images of 64 x 64 needs more memory than cpu has for the student at 2; give a smaller"
        r" --batch-size than 16",
    ):
        attempt(teacher, images, network(OutOfMemory()), 16)


def test_the_teacher_is_tried_too(teacher: Teacher, images: SubtaskImages) -> None:
    broken = copy.copy(teacher)
    object.__setattr__(broken, "model", nn.Sequential(nn.Flatten(), nn.Linear(7, 10)))
    with pytest.raises(UsageError, match=r"The teacher does not take images of 64 x 64 at 1: .* with --teacher\."):
        attempt(broken, images, network(), 16)


def test_a_smaller_last_batch_is_tried_too(teacher: Teacher, images: SubtaskImages) -> None:
    class Picky(nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            if self.training and len(values) == 4:
                raise ValueError("four is a bad number")
            return values

    assert len(images.train) == 160
    with pytest.raises(UsageError, match=r"does not take images of 64 x 64 at 2: four is a bad number"):
        attempt(teacher, images, network(Picky()), 39)


def test_the_trial_changes_neither_student_nor_random_numbers(teacher: Teacher, images: SubtaskImages) -> None:
    student, config = network(nn.BatchNorm2d(8), nn.Dropout()), DistillConfig(epochs=1, batch_size=16, compute="cpu")
    lesson = Lesson(teacher=teacher, subtask=teacher.subtask(CLASSES), images=images)
    before, random = copy.deepcopy(student.state_dict()), torch.get_rng_state()
    _try_batches(lesson, student, config, open_accelerator(config))
    assert torch.equal(random, torch.get_rng_state())
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not next(student.children())._forward_pre_hooks


@pytest.mark.parametrize("process_count", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 39, 53, 80, 159, 160, 1000])
def test_the_sizes_are_those_of_the_loader(images: SubtaskImages, batch_size: int, process_count: int) -> None:
    found: set[int] = set()
    for index in range(process_count):
        share = Share(index=index, count=process_count)
        loader = open_loader(images.train, small_teacher().preprocess, batch_size, Pass(shuffle=True), share=share)
        found |= {len(batch) for batch in loader.batch_sampler}  # type: ignore[union-attr]  # it always has one
    assert set(batch_shares(len(images.train), batch_size, process_count)) == found
