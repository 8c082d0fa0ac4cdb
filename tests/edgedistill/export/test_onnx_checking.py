"""Plants layers that export as something else, and asks which layer the error names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from edgedistill.export._onnx_checking import check_against_torch, find_first_layer
from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill.models.student import build_student
from edgedistill.rejection.rejector import Rejector
from edgedistill_deploy.errors import EdgeDistillError

SIZE = 32


def is_exported() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


class Unfaithful(nn.Module):
    """Exports as half of what it computes."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.inner(x)
        return value * 0.5 if is_exported() else value


class UnfaithfulGate(nn.Module):
    """A layer of its own that exports with another formula."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x) if is_exported() else x * torch.sigmoid(1.7 * x)


class Block(nn.Module):
    """Two branches, of which the shortcut runs last; the sum is written over the first branch's result."""

    def __init__(self, D: int, K: int, gate: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(D, K, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(K)
        self.gate = gate
        self.conv2 = nn.Conv2d(K, K, 3, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(D, K, 1), nn.BatchNorm2d(K))
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        value: Tensor = self.conv2(self.gate(self.bn1(self.conv1(x))))
        value += self.shortcut(x)
        result: Tensor = self.act(value)
        return result


class Network(nn.Module):
    def __init__(self, gate: Callable[[], nn.Module] = nn.SiLU, C: int = 3) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 8, nn.SiLU()), Block(8, 12, gate()), Block(12, 8, nn.SiLU()))
        self.head = nn.Linear(8, C)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.blocks(x).mean((2, 3)))
        return result


def deployed(model: nn.Module, rejector: Rejector | None = None) -> Deployed:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for each in model.parameters():
            each.normal_(0, 0.3)
    return Deployed(model.eval(), Normalise((0.5,) * 3, (0.5,) * 3), rejector=rejector)


@pytest.fixture
def samples() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


def error_of(model: Deployed, samples: npt.NDArray[np.uint8], folder: Path, opset: int) -> str:
    with pytest.raises(EdgeDistillError) as caught:
        write_onnx(model, (SIZE, SIZE), folder / "m.onnx", opset=opset, metadata={}, samples=samples)
    assert list(folder.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize("place", ["stages.0", "stages.2", "head"])
def test_a_layer_that_exports_as_something_else_is_named(
    place: str, samples: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    model: Any = build_student("plain:16-12-8", 3)
    parent, _, leaf = place.rpartition(".")
    setattr(model.get_submodule(parent), leaf, Unfaithful(model.get_submodule(place)))
    message = error_of(deployed(model), samples, tmp_path, opset=17)
    assert message.startswith("The exported m.onnx differs from the torch model: with a batch of 1, logit ")
    assert f"The first layer that differs is '{place}' (Unfaithful); the last layer before it that agrees is" in message
    assert f"'{place}.inner'" in message


@pytest.mark.parametrize("opset", [17, 20])
def test_neither_a_joined_layer_nor_the_other_branch_is_blamed(
    opset: int, samples: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    # conv1 and bn1 are joined in the file, and the shortcut, which runs later, agrees.
    message = error_of(deployed(Network(UnfaithfulGate)), samples, tmp_path, opset)
    assert "The first layer that differs is 'blocks.1.gate' (UnfaithfulGate)" in message
    assert "the last layer before it that agrees is 'blocks.1.bn1'" in message


def test_the_first_of_two_joined_layers_is_named(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    model = deployed(Network())
    write_onnx(model, (SIZE, SIZE), tmp_path / "m.onnx", opset=17, metadata={}, samples=samples)
    with torch.no_grad():
        model.get_parameter("model.blocks.2.bn1.bias").add_(1.0)
    with pytest.raises(EdgeDistillError, match=r"first layer that differs is 'blocks\.2\.conv1' \(Conv2d\)"):
        check_against_torch(tmp_path / "m.onnx", model, samples)


def test_the_worst_output_of_the_worst_image_is_given(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    model = deployed(Network())
    write_onnx(model, (SIZE, SIZE), tmp_path / "m.onnx", opset=17, metadata={}, samples=samples)
    with torch.no_grad():
        before = float(model(torch.from_numpy(samples))[0, 1])
        model.get_parameter("model.head.bias")[1] += 5.0
    with pytest.raises(EdgeDistillError) as caught:
        check_against_torch(tmp_path / "m.onnx", model, samples)
    said = re.search(
        r"batch of 1, logit 1 of image 0 is (\S+) instead of (\S+)\. .*'head' \(Linear\)", str(caught.value)
    )
    assert said is not None, caught.value
    assert [float(each) for each in said.groups()] == pytest.approx([before, before + 5], rel=1e-3)


def test_a_sound_file_has_no_layer_that_differs(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    model = deployed(Network())
    write_onnx(model, (SIZE, SIZE), tmp_path / "m.onnx", opset=17, metadata={}, samples=samples)
    said = find_first_layer(tmp_path / "m.onnx", model, samples[:1])
    assert said.startswith("Each of its layers agrees when ONNX Runtime computes the graph as it is written")


def test_a_file_of_other_classes_is_told_by_its_shape(samples: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    write_onnx(deployed(Network(C=4)), (SIZE, SIZE), path, opset=17, metadata={})
    with pytest.raises(EdgeDistillError, match=r"gives logits of shape \(1, 4\) for a batch of 1, where .* \(1, 3\)"):
        check_against_torch(path, deployed(Network()), samples)


def test_decisions_that_do_not_follow_from_the_logits_are_an_error(
    samples: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    every, none = (deployed(Network(), Rejector(score="max_logit", threshold=each)) for each in (-1e9, 1e9))
    write_onnx(every, (SIZE, SIZE), tmp_path / "m.onnx", opset=17, metadata={}, samples=samples)
    with pytest.raises(EdgeDistillError, match=r"whether an image is in the domain, for 4 of 4 images"):
        check_against_torch(tmp_path / "m.onnx", none, samples)
