"""Every family of networks, as teacher and as student: paired, tapped, its subspaces found, one layer loss run
backward."""

import pytest
import torch
from torch import Tensor, nn

from edgedistill.losses.subspace_loss import SubspaceLoss
from edgedistill.networks.layers import LayerPair, as_map, capture, map_shapes
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.directions import Subspace
from edgedistill.subspaces.finding import find_subspaces
from edgedistill_deploy.errors import EdgeDistillError
from reference.small_networks import SMALL_NETWORKS, small_network

SIZE = (64, 64)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def found_subspaces(
    teacher: nn.Module, student: nn.Module, pairs: tuple[LayerPair, ...]
) -> tuple[dict[str, Subspace], dict[str, tuple[int, int, int]]]:
    shapes = map_shapes(student, [pair.student for pair in pairs], SIZE)
    subspaces = find_subspaces(
        teacher,
        [0, 2, 5],
        [images()],
        {pair.teacher: shapes[pair.student][0] for pair in pairs},
        map_sizes={pair.teacher: shapes[pair.student][1:] for pair in pairs},
    )
    return subspaces, shapes


def layer_losses(teacher: nn.Module, student: nn.Module) -> list[Tensor]:
    pairs = pair_layers(teacher, student, SIZE)
    subspaces, shapes = found_subspaces(teacher, student, pairs)
    with torch.no_grad(), capture(teacher.eval(), [pair.teacher for pair in pairs]) as taught:
        teacher(images())
    with capture(student.train(), [pair.student for pair in pairs]) as learned:
        student(images())
    losses: list[Tensor] = []
    for pair in pairs:
        loss = SubspaceLoss(subspaces[pair.teacher], shapes[pair.student][0])
        student_map = as_map(learned[pair.student], student, pair.student)
        losses.append(loss(student_map, as_map(taught[pair.teacher], teacher, pair.teacher)))
    return losses


def assert_trains(losses: list[Tensor], student: nn.Module) -> None:
    assert len(losses) == 4
    assert all(bool(loss.isfinite()) and float(loss.detach()) > 0 for loss in losses)
    torch.autograd.backward(losses)
    gradients = [each.grad for each in student.parameters() if each.grad is not None]
    assert len(gradients) > 4
    assert all(bool(each.isfinite().all()) for each in gradients)
    assert any(bool(each.any()) for each in gradients)


@pytest.mark.parametrize("family", SMALL_NETWORKS)
def test_as_teacher(family: str) -> None:
    student = small_network("resnet", classes=3)
    assert_trains(layer_losses(small_network(family), student), student)


@pytest.mark.parametrize("family", SMALL_NETWORKS)
def test_as_student(family: str) -> None:
    student = small_network(family, classes=3)
    assert_trains(layer_losses(small_network("resnet"), student), student)


@pytest.mark.parametrize(("teacher", "student"), [("vit", "deit"), ("swin", "vit"), ("vit", "swin")])
def test_transformers_among_themselves(teacher: str, student: str) -> None:
    model = small_network(student, classes=3)
    assert_trains(layer_losses(small_network(teacher), model), model)


@pytest.mark.parametrize("family", ["mobilenetv3", "mobilenetv4", "efficientnet", "lcnet"])
def test_map_sizes_of_mobile_students_agree_with_the_teachers(family: str) -> None:
    teacher, student = small_network("resnet"), small_network(family)
    pairs = pair_layers(teacher, student, SIZE)
    taught = map_shapes(teacher, [pair.teacher for pair in pairs], SIZE)
    learned = map_shapes(student, [pair.student for pair in pairs], SIZE)
    assert [shape[1:] for shape in taught.values()] == [shape[1:] for shape in learned.values()]


def test_fused_attention_gives_the_gradients_of_plain_attention() -> None:
    fused, plain = small_network("vit"), small_network("vit")
    for block in plain.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    assert all(block.attn.fused_attn for block in fused.blocks)  # type: ignore[union-attr]
    one, other = (
        find_subspaces(model, [0, 1], [images()], {"blocks.2": 5}, method="gradient", positions=None)["blocks.2"]
        for model in (fused, plain)
    )
    torch.testing.assert_close(one.eigenvalues, other.eigenvalues, rtol=1e-3, atol=1e-9)


def test_the_last_block_of_a_class_token_transformer_says_why_it_has_no_subspace() -> None:
    with pytest.raises(
        EdgeDistillError,
        match=r"layer 'blocks\.5', at every position .*: the logits do not depend on its map .*class token",
    ):
        find_subspaces(small_network("vit"), [0, 1], [images()], {"blocks.5": 4})
