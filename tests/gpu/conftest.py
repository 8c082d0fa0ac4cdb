"""What the tests on a CUDA GPU share. They need torch and its family, pytest, and nothing else that is optional."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from edgedistill.data.splits import SubtaskImages
from edgedistill.models.teacher import Teacher
from reference.gpu_training import CLASSES, Train, trainer
from reference.small_networks import few_images, small_teacher

# `cpu` here tries the tests themselves where there is no GPU: they then compare the CPU with itself.
PLACE = "EDGEDISTILL_GPU_TESTS_ON"


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """The device that the CPU is compared with."""
    place = os.environ.get(PLACE, "cuda")
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return torch.device(place)


@pytest.fixture(autouse=True)
def _exact_convolutions() -> Iterator[None]:
    """Without this, convolutions round their inputs to ten bits (TF32), which hides what is compared."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@pytest.fixture(scope="session")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="session")
def images(tiny_digits: Path) -> SubtaskImages:
    return few_images(tiny_digits, CLASSES)


@pytest.fixture(scope="session")
def train(teacher: Teacher, images: SubtaskImages) -> Train:
    return trainer(teacher, images)
