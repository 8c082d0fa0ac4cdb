"""A teacher with fewer channels: what is left computes what the teacher computes without the others."""

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from edgedistill.models.start import find_start
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import count_cost
from edgedistill.networks.pairing import pair_layers
from edgedistill.shrinking.shape import ShrunkShape, count_kept
from edgedistill.shrinking.shrinking import ShrunkStudent, shape_of_shrunk, shrink_teacher
from edgedistill_deploy.errors import BundleError, DataError, MissingDependencyError, UsageError
from edgedistill_deploy.images.preprocess import Preprocess
from reference.shrunk_networks import KEPT, few_pictures, teacher_of
from reference.small_networks import small_teacher

FAMILIES = ("resnet", "mobilenetv3", "convnext", "vit", "swin")


def shrunk(teacher: Teacher, share: float = 0.5, by: str = "magnitude", **more: Any) -> ShrunkStudent:
    return shrink_teacher(teacher, teacher.subtask(KEPT), few_pictures(), share, channels=by, **more)


def without_channels(teacher: nn.Module, student: nn.Module) -> nn.Module:
    """The whole teacher with 0 in the channels that the student lacks; each vector's numbers tell which these are."""
    masked, own = copy.deepcopy(teacher), student.state_dict()
    modules = dict(masked.named_modules())
    for name, tensor in teacher.state_dict().items():
        owner, _, kind = name.rpartition(".")
        module = modules[owner]
        if tensor.ndim != 1 or own[name].shape == tensor.shape or kind not in ("weight", "bias"):
            continue
        lost = [place for place, value in enumerate(tensor.tolist()) if value not in own[name].tolist()]
        assert len(lost) == len(tensor) - len(own[name])
        for part in (module.weight, module.bias):
            part.data[lost] = 0
    return masked


@pytest.mark.parametrize("family", FAMILIES)
def test_the_student_computes_what_the_teacher_does_without_the_channels(family: str) -> None:
    teacher = teacher_of(family)
    student = shrunk(teacher).network.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = without_channels(teacher.model, student)(images)[:, [7, 2, 4]]
        given = student(images)
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert sum(each.numel() for each in student.parameters()) < 0.85 * sum(
        each.numel() for each in teacher.model.parameters()
    )


def test_half_means_half_of_the_channels_inside_the_blocks_alone() -> None:
    teacher = teacher_of("resnet")
    student: Any = shrunk(teacher).network
    full: Any = teacher.model
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        block, whole = getattr(student, stage)[0], getattr(full, stage)[0]
        assert block.conv1.out_channels == block.conv2.in_channels == count_kept(whole.conv1.out_channels, 0.5)
        assert block.conv2.out_channels == whole.conv2.out_channels
    assert pair_layers(full, student, (64, 64)) == pair_layers(full, full, (64, 64))


@pytest.mark.parametrize(
    ("count", "share", "blocks", "kept"),
    [(96, 0.5, 1, 48), (18, 0.5, 1, 8), (24, 0.5, 1, 12), (144, 0.4, 1, 56), (40, 0.5, 1, 16), (3, 0.1, 1, 3)],
)
def test_counts_fill_the_kernels_from_16_channels_on(count: int, share: float, blocks: int, kept: int) -> None:
    assert count_kept(count, share, blocks) == kept


def test_blocks_of_a_grouped_convolution_stay_equally_large() -> None:
    assert count_kept(24, 0.5, 3) == 12
    student: Any = shrunk(teacher_of("regnet"), 0.25).network
    for name, module in student.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            assert module.out_channels % module.groups == 0, name
            assert module.out_channels // module.groups == 2, name


def test_the_same_seed_chooses_the_same_channels_and_another_one_others() -> None:
    teacher = teacher_of("resnet")
    first, again, other = (shrunk(teacher, by="random", seed=seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_the_teacher_stays_as_it_was() -> None:
    teacher = teacher_of("resnet")
    before = copy.deepcopy(teacher.model.state_dict())
    for by in ("relevance", "taylor"):
        shrunk(teacher, by=by)
    after = teacher.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(each.grad is None and each.requires_grad for each in teacher.model.parameters())
    assert not teacher.model.training


def test_the_head_starts_from_the_rows_of_the_classes_and_the_pixels_are_the_teachers() -> None:
    teacher = teacher_of("vit")
    made = shrunk(teacher)
    head: Any = made.network
    full: Any = teacher.model
    assert torch.equal(head.head.weight, full.head.weight[[7, 2, 4]])
    assert (made.start.head_rows, made.start.head_classes) == (3, 3)
    assert (made.start.mean, made.start.std) == (teacher.mean, teacher.std)
    assert made.start.sentence() == (
        "the student starts from the trained weights of the teacher, shrunk to 0.5 of its channels by magnitude; the "
        "head starts from 3 of 3 trained rows"
    )


def test_from_nothing_it_has_the_shape_alone() -> None:
    teacher = teacher_of("resnet")
    bare = shrunk(teacher, start=find_start("teacher:0.5", "none"))
    trained = shrunk(teacher)
    shapes = [{name: each.shape for name, each in made.network.state_dict().items()} for made in (bare, trained)]
    assert shapes[0] == shapes[1]
    assert (bare.start.weights, bare.start.because) == ("", "student.weights is none")
    assert not torch.equal(bare.network.get_parameter("conv1.weight"), trained.network.get_parameter("conv1.weight"))


@pytest.fixture
def _no_torch_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)


def rebuilt(made: ShrunkStudent) -> nn.Module:
    record = json.loads(json.dumps(made.shape.to_json()))
    network = ShrunkShape.from_json(record).build(len(KEPT), (64, 64), seed=3)
    network.load_state_dict(made.network.state_dict(), strict=True)
    return network.eval()


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_json_alone_builds_it_again(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = shrunk(teacher_of(family), 0.25)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    images: Tensor = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(made)(images), made.network.eval()(images))


def damaged(**changes: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(shape_of_shrunk(teacher_of("resnet"), 0.5).to_json())), **changes}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "no_such_net"}, "timm has no model 'no_such_net'"),
        ({"architecture": "local-dir:/etc"}, "timm has no model 'local-dir:/etc'"),
        ({"arguments": {"checkpoint_path": "weights.pth"}}, "it gives checkpoint_path"),
        ({"arguments": {"no_such_argument": 1}}, "timm cannot build 'resnet18'"),
        ({"layers": {"layer9": {"out_channels": 4}}}, "there is no out_channels of a layer 'layer9'"),
        ({"layers": {"layer1.0.conv1": {"out_channels": 4000}}}, "layer1.0.conv1.out_channels is 4000"),
        ({"layers": {"layer1.0.conv1": {"forward": 4}}}, "there is no forward of a layer"),
        ({"tensors": {"layer1.0.conv1.weight": [4, 8, 3]}}, "layer1.0.conv1.weight is of shape"),
        ({"tensors": {"layer9": [4]}}, "resnet18 has no tensor 'layer9'"),
        ({"tensors": 3}, "it has no readable"),
    ],
)
def test_a_damaged_description_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(BundleError, match="cannot be used") as caught:
        ShrunkShape.from_json(damaged(**changes)).build(3, (64, 64))
    assert why in str(caught.value)
    assert "distil again with --restart" in str(caught.value)


def test_what_cannot_be_shrunk_is_said_in_one_sentence() -> None:
    with pytest.raises(UsageError, match="MambaOut cannot be shrunk: it does not run with fewer channels"):
        shrunk(teacher_of("mambaout"))
    with pytest.raises(UsageError, match=r"Only a teacher of timm can be shrunk .* torchvision:resnet50 was given"):
        shrunk(replace(teacher_of("resnet"), name="torchvision:resnet50"))
    with pytest.raises(UsageError, match="Sequential cannot be shrunk: it is no network of timm"):
        shrunk(replace(teacher_of("resnet"), model=nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10))))
    with pytest.raises(UsageError, match="channels cannot be 'colour'"):
        shrunk(teacher_of("resnet"), by="colour")


def test_without_images_no_relevance_can_be_found() -> None:
    teacher = teacher_of("resnet")
    with pytest.raises(DataError, match="no images to find relevant channels with"):
        shrink_teacher(teacher, teacher.subtask(KEPT), few_pictures(0), 0.5)


@pytest.mark.usefixtures("_no_torch_pruning")
def test_without_the_library_the_message_names_the_command() -> None:
    with pytest.raises(MissingDependencyError, match=r"needs torch-pruning.*pip install 'edgedistill\[shrink\]'"):
        shrunk(teacher_of("resnet"))


def test_the_documented_share_of_multiply_adds_is_what_half_of_the_channels_costs() -> None:
    page = (Path(__file__).parents[3] / "docs" / "students.md").read_text(encoding="utf-8")
    stated = re.search(r"EfficientNet-Lite0 at 128 pixels \| (\d+) %", page)
    assert stated is not None
    model = timm.create_model("tf_efficientnet_lite0", num_classes=10).eval()
    teacher = replace(small_teacher(), name="timm:tf_efficientnet_lite0", model=model)
    teacher = replace(teacher, preprocess=Preprocess(size=(128, 128)))
    student = shape_of_shrunk(teacher, 0.5).build(10, (128, 128))
    whole, half = (count_cost(each, (128, 128)).multiply_adds for each in (model, student))
    assert round(100 * half / whole) == int(stated[1])
