"""The ResNet for small images, as timm finds it."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill.networks.pairing import pair_layers
from edgedistill_deploy.errors import UsageError

SMALL: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}


def _stage_shapes(model: torch.nn.Module, side: int = 32) -> list[tuple[int, ...]]:
    maps = model.eval().forward_intermediates(torch.zeros(1, 3, side, side))[1]  # type: ignore[operator]
    return [tuple(each.shape[1:]) for each in maps]


@pytest.mark.parametrize(("stem_pool", "sides"), [(True, [32, 16, 8, 4, 2]), (False, [32, 32, 16, 8, 4])])
def test_the_stem_keeps_the_resolution(stem_pool: bool, sides: list[int]) -> None:
    model: Any = timm.create_model("resnet18_cifar", num_classes=10, stem_pool=stem_pool, **SMALL)
    widths = [32, 32, 64, 128, 256]
    assert _stage_shapes(model) == [(width, side, side) for width, side in zip(widths, sides, strict=True)]
    assert [each["reduction"] for each in model.feature_info] == [32 // side for side in sides]


def test_its_size_is_that_of_the_blocks_by_hand() -> None:
    def block(inputs: int, outputs: int) -> int:
        convolutions = 9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs
        return convolutions + (inputs * outputs + 2 * outputs if inputs != outputs else 0)

    expected = 27 * 32 + 64 + block(32, 32) + block(32, 64) + block(64, 128) + block(128, 256) + 2570
    model = timm.create_model("resnet18_cifar", num_classes=10, **SMALL)
    assert sum(each.numel() for each in model.parameters()) == expected == 1_228_970


def test_weights_of_a_cifar_resnet_fill_it(tmp_path: Path) -> None:
    """What many CIFAR teachers are: timm's or torchvision's ResNet-18 with a 3x3 stem and no max-pool."""
    usual = timm.create_model("resnet18", num_classes=4)
    usual.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    usual.maxpool = torch.nn.Identity()
    torch.save(usual.state_dict(), tmp_path / "weights.pth")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    teacher = load_teacher("timm:resnet18_cifar", weights=tmp_path / "weights.pth", classes=tmp_path / "labels.txt")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(teacher.model(images), usual.eval()(images))
    assert teacher.preprocess.size == (32, 32)


def test_it_is_a_student_too_and_pairs_by_stage() -> None:
    student = build_student("timm:resnet18_cifar", 5, width=0.125)
    assert student(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
    teacher = timm.create_model("resnet18_cifar", num_classes=10, **SMALL)
    pairs = pair_layers(teacher, student, (32, 32))
    assert [(each.teacher, each.student) for each in pairs] == [(f"layer{k}", f"layer{k}") for k in (1, 2, 3, 4)]


def test_an_odd_first_width_is_refused() -> None:
    with pytest.raises(UsageError, match=r"The first of the widths \(33, 64, 128, 256\) must be even"):
        timm.create_model("resnet18_cifar", channels=[33, 64, 128, 256])
