"""Which subspace a layer is matched in when the validation images decide."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.inspection.choosing import choose_methods
from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill.subspaces.finding import gather_moments, load_subspaces
from edgedistill_deploy.errors import UsageError

CLASSES = list("0123")


class Chain(nn.Module):
    """Two layers that hand images on, and a head that reads the first channel alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        for layer, gains in ((self.first, torch.ones(3)), (self.second, torch.tensor([50.0, 1.0, 1.0]))):
            layer.weight.data = torch.diag(gains)[:, :, None, None]

    def forward(self, images: Tensor) -> Tensor:
        signal = self.second(self.first(images))[:, 0].mean((1, 2))
        return torch.stack([signal, -signal], 1)


def _images(count: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """The class is the sign of the first channel; the others are noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.randn(count, 3, 2, 2, generator=generator) * noise
    images[:, 0] = (1 - 2 * labels)[:, None, None] * (1 + 0.1 * torch.rand(count, 2, 2, generator=generator))
    return images, labels


def _chosen(noise: float, rank: int) -> dict[str, str]:
    model = Chain().eval()
    images, _ = _images(200, noise, 0)
    moments = gather_moments(model, (0, 1), [images], ("first", "second"))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        yield _images(60, noise, 1)
        yield _images(40, noise, 2)

    counts: list[int] = []
    ranks = {"first": rank, "second": rank}
    chosen = choose_methods(model, (0, 1), batches, moments, ranks, counts.append)
    assert counts[-1] == 2 * 2 * 100
    return chosen


def test_the_relevant_subspace_is_taken_where_variance_loses_the_answer() -> None:
    # In the first layer noise has ten times the deviation of the signal, in the second a fifth of it.
    assert _chosen(noise=10.0, rank=1) == {"first": "prca", "second": "pca"}


def test_the_largest_variance_is_taken_where_it_suffices() -> None:
    assert _chosen(noise=0.1, rank=1) == {"first": "pca", "second": "pca"}
    assert _chosen(noise=10.0, rank=3) == {"first": "pca", "second": "pca"}


@pytest.fixture(scope="module")
def data(tiny_digits: Path) -> str:
    return f"npz:{tiny_digits}"


def _run(data: str, method: str, folder: Path | None = None) -> DistillResult:
    teacher = load_teacher("embedded:glyphs100")
    student = build_student("plain:4-4-2-2", len(CLASSES))
    whole = split_for_subtask(open_source(data), CLASSES)
    train = whole.train.select(range(0, len(whole.train), 2))
    images = SubtaskImages(train=train, validation=whole.validation, test=None)
    config = DistillConfig(epochs=1, batch_size=32, augment="none", compute="cpu", method=method)
    return distill(teacher, student, teacher.subtask(CLASSES), images, config, folder=folder)


def test_each_layer_is_matched_in_the_subspace_of_its_choice(data: str, tmp_path: Path) -> None:
    chosen = _run(data, "auto", tmp_path)
    of = {method: _run(data, method).subspaces for method in ("pca", "prca")}
    methods = {name: subspace.method for name, subspace in chosen.subspaces.items()}
    # Two of 128 and of 256 directions of largest variance do not tell four digits apart.
    assert methods["layer3"] == methods["layer4"] == "prca"
    for name, subspace in chosen.subspaces.items():
        assert torch.equal(subspace.basis, of[methods[name]][name].basis)
    kept = load_subspaces(tmp_path / "subspaces.safetensors")
    assert {name: subspace.method for name, subspace in kept.items()} == methods


def test_auto_is_a_setting_and_no_other_word_is() -> None:
    with pytest.raises(UsageError, match="Did you mean auto"):
        DistillConfig(method="automatic")
