"""A table of timm's families: what pairs, how each layer's output is read, and that a student learns from all of
them."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.layers.config import set_fused_attn
from torch import Tensor, nn

from edgedistill.losses.subspace_loss import SubspaceLoss
from edgedistill.networks.layers import as_map, capture, map_shapes, maps_and_contexts
from edgedistill.networks.pairing import pair_layers
from edgedistill.subspaces.finding import find_subspaces
from reference.architectures import ARCHITECTURES, SLOW_ARCHITECTURES, Architecture, architecture
from reference.small_networks import small_network

ROWS = ARCHITECTURES | SLOW_ARCHITECTURES


# timm's declarations for these name modules that do not exist, do not run or return something else.
UNTRUE = {"twins_svt_small", "coat_lite_tiny", "mvitv2_tiny", "hrnet_w18_small", "tresnet_m", "crossvit_9_240"}


def rows_but(left_out: set[str]) -> list[Any]:
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in SLOW_ARCHITECTURES if name not in left_out]
    return [*(name for name in ARCHITECTURES if name not in left_out), *slow]


def images(row: Architecture, count: int = 2) -> Tensor:
    return torch.randn(count, 3, row.size, row.size, generator=torch.Generator().manual_seed(0))


def student_of_four_stages() -> nn.Module:
    return small_network("resnet", classes=3)


@pytest.mark.parametrize("name", rows_but(set()))
def test_a_student_takes_a_step_towards_every_teacher(name: str) -> None:
    row, teacher, student = ROWS[name], architecture(name), student_of_four_stages().train()
    pairs = pair_layers(teacher, student, (row.size, row.size))
    assert tuple(pair.teacher for pair in pairs) == row.layers
    assert [pair.student for pair in pairs] == sorted({pair.student for pair in pairs})
    take_a_step(teacher, student, images(row))


@pytest.mark.parametrize("teacher", ["resnet", "vit"])
@pytest.mark.parametrize(
    "name",
    [
        "efficientformerv2_s0",
        "fastvit_t8",
        "tiny_vit_5m_224",
        "mobilevit_xxs",
        "edgenext_xx_small",
        "levit_128s",
        "mobilenetv4_conv_small_035",
    ],
)
def test_mobile_students_take_a_step_towards_a_network_and_a_transformer(name: str, teacher: str) -> None:
    # A copy: the table's networks are shared, and a step changes one.
    student = copy.deepcopy(architecture(name)).train()
    take_a_step(small_network(teacher), student, images(ROWS[name], count=4))


def take_a_step(teacher: nn.Module, student: nn.Module, batch: Tensor) -> None:
    """Find the subspaces, match all paired layers, step along the gradient, and see the loss fall."""
    size = (batch.shape[2], batch.shape[3])
    pairs = pair_layers(teacher, student, size)
    assert len(pairs) > 1
    widths = map_shapes(student, [pair.student for pair in pairs], size)
    subspaces = find_subspaces(
        teacher,
        [0, 2, 5],
        [batch],
        {pair.teacher: widths[pair.student][0] for pair in pairs},
        map_sizes={pair.teacher: widths[pair.student][1:] for pair in pairs},
    )
    with torch.no_grad(), capture(teacher.eval(), [pair.teacher for pair in pairs]) as taught:
        teacher(batch)
    losses = nn.ModuleList(SubspaceLoss(subspaces[pair.teacher], widths[pair.student][0]) for pair in pairs)

    def total() -> Tensor:
        with torch.random.fork_rng(), capture(student, [pair.student for pair in pairs]) as learned:
            torch.manual_seed(0)  # the same dropped paths before and after
            student(batch)
        each = (
            loss(
                as_map(learned[pair.student], student, pair.student),
                as_map(taught[pair.teacher], teacher, pair.teacher),
            )
            for loss, pair in zip(losses, pairs, strict=True)
        )
        summed: Tensor = torch.stack(list(each)).sum()
        return summed

    before = total()
    torch.autograd.backward([before])
    gradients = [each.grad for each in student.parameters() if each.grad is not None]
    assert len(gradients) > 4
    # As far along the gradient as would take a hundredth of the loss if it were linear; untrained teachers vary little.
    step = 0.01 * float(before.detach()) / sum(float(each.double().square().sum()) for each in gradients)
    torch.optim.SGD(student.parameters(), lr=step).step()
    assert float(total().detach()) < float(before.detach())


@pytest.mark.parametrize("name", rows_but(UNTRUE))
def test_maps_are_those_of_timms_own_feature_extraction(name: str) -> None:
    # timm folds, permutes and reorders in each model's own code.
    model, batch = architecture(name), images(ROWS[name])
    declared = [info["module"] for info in feature_info(model)]
    expected = model.forward_intermediates(batch, intermediates_only=True)  # type: ignore[operator]
    with torch.no_grad(), capture(model, declared) as outputs:
        model(batch)
    for layer, value in zip(declared, expected, strict=True):
        torch.testing.assert_close(as_map(outputs[layer], model, layer), value.detach(), rtol=1e-4, atol=1e-5)


def feature_info(model: nn.Module) -> list[dict[str, str]]:
    declared: Any = model.feature_info
    infos: list[dict[str, str]] = getattr(declared, "info", declared)
    return infos


@pytest.mark.parametrize("name", [name for name, row in ARCHITECTURES.items() if row.prefix])
def test_prefix_tokens_are_dropped_and_patches_fold_row_by_row(name: str) -> None:
    row, model = ROWS[name], architecture(name)
    layer = row.layers[-1]
    with torch.no_grad(), capture(model, [layer]) as outputs:
        model(images(row))
    output = outputs[layer]
    tokens = output if isinstance(output, Tensor) else output[-1]  # TNT returns pixels beside patches
    found = as_map(output, model, layer)
    H, W = found.shape[2:]
    assert tokens.shape[1] == row.prefix + H * W
    for y in range(H):
        for x in range(W):
            assert torch.equal(found[:, :, y, x], tokens[:, row.prefix + y * W + x])


# HRNet mixes coarse maps into the fine one before its first tapped layer.
@pytest.mark.parametrize("name", rows_but({"hrnet_w18_small"}))
def test_a_change_of_one_patch_shows_in_its_own_cell(name: str) -> None:
    # An untrained block adds little to what it is given, so the patch that changed changes most, whatever attends to
    # it.
    row, model = ROWS[name], architecture(name)
    layer = row.layers[0]
    H, W = map_shapes(model, [layer], (row.size, row.size))[layer][1:]
    y, x = H // 8, W - 1 - W // 4  # no cell that a transposed or a windowed order would hit too
    cell = row.size / H
    rows, columns = (slice(round(cell * each), round(cell * (each + 1))) for each in (y, x))
    batch = images(row, 1).repeat(2, 1, 1, 1)
    batch[1, :, rows, columns] += 3
    with torch.no_grad(), capture(model, [layer]) as outputs:
        model(batch)
    before, after = as_map(outputs[layer], model, layer)
    found = divmod(int((after - before).square().sum(0).argmax()), W)
    if row.prefix and layer == "blocks.0":
        assert found == (y, x)
    assert abs(found[0] - y) <= 1  # the patches of convolutional stems overlap
    assert abs(found[1] - x) <= 1


@contextlib.contextmanager
def fused_attention(enabled: bool) -> Iterator[None]:
    # Some families (Swin) fuse only where the experimental flag is set too.
    set_fused_attn(enabled, experimental=enabled)
    try:
        yield
    finally:
        set_fused_attn(True)


def built(row: Architecture, *, fused: bool) -> nn.Module:
    with fused_attention(fused), torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(row.model, num_classes=10, **row.options)
    flags = {module.fused_attn for module in model.modules() if hasattr(module, "fused_attn")}
    assert fused in flags
    assert fused or True not in flags
    return model.eval()


@pytest.mark.parametrize(
    "name",
    [
        "deit_tiny_distilled_patch16_224",
        "vit_small_patch16_dinov3",
        "eva02_tiny_patch14_224",
        "beit_base_patch16_224",
        "swin_tiny_patch4_window7_224",
        "maxvit_rmlp_pico_rw_256",
        "mobilevit_xxs",
        "tiny_vit_5m_224",
        "hiera_tiny_224",
        "pvt_v2_b0",
    ],
)
def test_fused_attention_gives_the_maps_and_gradients_of_plain_attention(name: str) -> None:
    row = ROWS[name]
    one, other = (
        maps_and_contexts(built(row, fused=fused), row.layers, images(row), lambda logits: logits.square().sum())
        for fused in (True, False)
    )
    for layer in row.layers:
        for fused, plain in zip(one[layer], other[layer], strict=True):
            assert bool(fused.any())
            torch.testing.assert_close(fused, plain, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))
