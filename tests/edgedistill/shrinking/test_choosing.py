"""Which channels stay: relevance is the diagonal of SubDistill's matrix, and silent channels go first."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from edgedistill.models.teacher import Teacher
from edgedistill.shrinking.choosing import find_channel_relevance
from edgedistill.shrinking.shrinking import shrink_teacher
from edgedistill.subspaces.directions import relevance_matrix
from edgedistill.subspaces.finding import Sampling, gather_moments
from edgedistill_deploy.errors import DataError
from reference.shrunk_networks import KEPT, few_pictures, teacher_of

LAYERS = ("layer1.0.bn1", "layer3.0.bn1")


def batches(size: int) -> Iterator[Tensor]:
    images = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    return iter(torch.split(images, size))


def test_relevance_is_the_diagonal_of_the_matrix_m() -> None:
    model = teacher_of("resnet").model
    found = find_channel_relevance(model, (7, (2, 4), 1), batches(4), LAYERS)
    moments = gather_moments(model, (7, (2, 4), 1), batches(6), LAYERS, Sampling(positions=None))
    for layer in LAYERS:
        expected = relevance_matrix(moments[layer], layer).diagonal()
        torch.testing.assert_close(found[layer], expected, rtol=1e-6, atol=1e-9)


def test_without_images_there_is_no_relevance() -> None:
    with pytest.raises(DataError, match="no images to find relevant channels with"):
        find_channel_relevance(teacher_of("resnet").model, (7, 2), iter(()), LAYERS)


def muted(teacher: Teacher, silent: range) -> nn.Module:
    """The teacher's network with constant zeros in some channels of a block's inner map."""
    model = copy.deepcopy(teacher.model)
    norm = model.get_submodule("layer3.0.bn1")
    for part in (norm.weight, norm.bias):
        part.data[list(silent)] = 0  # type: ignore[operator]  # torch types parts of modules loosely
    return model


@pytest.mark.parametrize("by", ["relevance", "taylor", "magnitude"])
def test_channels_that_say_nothing_go_first(by: str) -> None:
    teacher = teacher_of("resnet")
    norm = "layer3.0.bn1.weight"
    silent = range(5, 15)
    model = muted(teacher, silent)
    if by == "magnitude":  # which looks at weights alone
        with torch.no_grad():
            model.get_parameter("layer3.0.conv1.weight")[list(silent)] = 0
            model.get_parameter("layer3.0.conv2.weight")[:, list(silent)] = 0
    loud = Teacher(
        name="muted",
        model=model,
        class_names=teacher.class_names,
        preprocess=teacher.preprocess,
        mean=teacher.mean,
        std=teacher.std,
    )
    made = shrink_teacher(loud, loud.subtask(KEPT), few_pictures(), 0.5, channels=by)
    kept = made.network.get_parameter(norm)
    assert len(kept) == 12
    assert bool((kept > 0).all())
