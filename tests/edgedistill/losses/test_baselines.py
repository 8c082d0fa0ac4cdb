from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgedistill.losses.baselines import (
    BASELINES,
    AttentionTransferLoss,
    FitNetLoss,
    SimilarityPreservingLoss,
    VIDLoss,
    VkDLoss,
)

GOLDEN = np.load(Path(__file__).parents[2] / "data" / "loss_golden.npz")


def golden(name: str) -> Tensor:
    return torch.from_numpy(np.asarray(GOLDEN[name]))


def maps(width: int, side: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((4, width, side, side))).float()


def golden_value(loss: nn.Module) -> float:
    value = loss(golden("student_smaller.student"), golden("student_smaller.teacher"))
    assert isinstance(value, Tensor)
    return value.item()


def test_attention_transfer_matches_the_golden_loss() -> None:
    assert golden_value(AttentionTransferLoss(6, 16)) == pytest.approx(
        golden("attention_transfer.loss").item(), rel=1e-5
    )


def test_fitnet_matches_the_golden_loss() -> None:
    loss = FitNetLoss(6, 16)
    loss.regressor.load_state_dict({"weight": golden("fitnet.weight"), "bias": golden("fitnet.bias")})
    assert golden_value(loss) == pytest.approx(golden("fitnet.loss").item(), rel=1e-5)


def test_vid_matches_the_golden_loss_and_starts_at_variance_five() -> None:
    loss = VIDLoss(6, 16)
    torch.testing.assert_close(loss.log_scale.detach(), golden("vid.log_scale"), rtol=1e-5, atol=0)
    loss.regressor.load_state_dict({f"{i}.weight": golden(f"vid.regressor.{i}.weight") for i in (0, 2, 4)})
    assert golden_value(loss) == pytest.approx(golden("vid.loss").item(), rel=1e-5)


def test_vkd_matches_the_golden_loss() -> None:
    loss = VkDLoss(6, 16)
    loss.projection.linear.weight = golden("vkd.projection")
    assert golden_value(loss) == pytest.approx(golden("vkd.loss").item(), rel=1e-5)


def test_similarity_is_the_mean_squared_difference_of_normalised_gram_matrices() -> None:
    student, teacher = maps(3, 4), maps(5, 2, 1)
    expected = 0.0
    for i in range(4):
        rows = [np.array([float((each[i] * each[j]).sum()) for j in range(4)]) for each in (student, teacher)]
        one, other = (row / np.sqrt((row**2).sum()) for row in rows)
        expected += float(((one - other) ** 2).sum()) / 16
    assert SimilarityPreservingLoss(3, 5)(student, teacher).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("student_side", "teacher_side"), [(4, 4), (2, 4), (4, 3)])
@pytest.mark.parametrize(("student_width", "teacher_width"), [(3, 8), (8, 8), (9, 4)])
def test_every_loss_trains_student_and_itself_and_never_the_teacher(
    name: str, student_side: int, teacher_side: int, student_width: int, teacher_width: int
) -> None:
    student = maps(student_width, student_side).requires_grad_()
    teacher = maps(teacher_width, teacher_side, 1).requires_grad_()
    loss = BASELINES[name](student_width, teacher_width)
    value = loss(student, teacher)
    value.backward()
    assert value.shape == ()
    assert teacher.grad is None
    assert student.grad is not None
    assert bool(student.grad.any())
    assert all(parameter.grad is not None for parameter in loss.parameters())


@pytest.mark.parametrize("name", ["attention-transfer", "similarity"])
def test_losses_without_parameters_are_zero_at_equality(name: str) -> None:
    both = maps(5, 4)
    assert BASELINES[name](5, 5)(both, both).item() == pytest.approx(0.0, abs=1e-9)


def test_vid_learns_its_variance() -> None:
    loss = VIDLoss(3, 8)
    loss(maps(3, 4), maps(8, 4)).backward()
    assert loss.log_scale.grad is not None
    assert loss.log_scale.is_leaf
