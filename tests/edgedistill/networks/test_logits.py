"""The logit of a group: its probability is the sum of its members', and all else stays to the bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedistill.export.deployed import Deployed
from edgedistill.models.normalise import Normalise
from edgedistill.networks.logits import restrict_logits
from edgedistill.subspaces.finding import find_subspaces
from edgedistill_deploy.errors import UsageError

OUTPUTS = 12


@st.composite
def partitions(draw: st.DrawFn) -> list[int | tuple[int, ...]]:
    """Some of the outputs in a random order, cut into classes of one or several."""
    order = draw(st.permutations(range(OUTPUTS)))[: draw(st.integers(2, OUTPUTS))]
    cuts = sorted(draw(st.sets(st.integers(1, len(order) - 1), max_size=len(order) - 1)))
    parts = [tuple(order[start:end]) for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return [part[0] if len(part) == 1 and draw(st.booleans()) else part for part in parts]


@settings(max_examples=50, deadline=None)
@given(classes=partitions(), seed=st.integers(0, 99), scale=st.sampled_from([1.0, 30.0, 300.0]))
def test_the_probability_of_a_group_is_the_sum_of_its_members(
    classes: list[int | tuple[int, ...]], seed: int, scale: float
) -> None:
    outputs = torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (5, OUTPUTS)))
    members = [[each] if isinstance(each, int) else list(each) for each in classes]
    kept = [index for each in members for index in each]
    among_kept = torch.softmax(outputs[:, kept], dim=1)
    sums = torch.stack([among_kept[:, [kept.index(i) for i in each]].sum(1) for each in members], dim=1)
    assert torch.allclose(torch.softmax(restrict_logits(outputs, classes), dim=1), sums, rtol=1e-9, atol=1e-12)


def test_a_class_of_one_output_keeps_its_logits_and_gradients_to_the_bit() -> None:
    outputs = torch.randn(6, OUTPUTS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    written: list[list[int | tuple[int, ...]]] = [[7, 2, 11], [(7,), (2,), (11,)], [7, (2,), 11]]
    for classes in written:
        own, before = restrict_logits(outputs, classes), outputs[:, [7, 2, 11]]
        assert torch.equal(own, before)
        weights = torch.linspace(-1, 1, own.numel()).reshape(own.shape)
        (gradient,) = torch.autograd.grad((own * weights).sum(), outputs)
        (expected,) = torch.autograd.grad((before * weights).sum(), outputs)
        assert torch.equal(gradient, expected)


def test_the_gradient_of_a_group_is_shared_by_the_probabilities_of_its_members() -> None:
    outputs = torch.randn(3, OUTPUTS, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(restrict_logits(outputs, [(1, 4, 9), 2])[:, 0].sum(), outputs)
    inside = torch.softmax(outputs[:, [1, 4, 9]], dim=1)
    assert torch.allclose(gradient[:, [1, 4, 9]], inside)
    assert gradient[:, [0, 2, 3, 5, 6, 7, 8, 10, 11]].abs().max() == 0


def test_many_small_members_are_not_lost_in_half_precision() -> None:
    outputs = torch.zeros(1, 1001, dtype=torch.bfloat16)
    found = restrict_logits(outputs, [tuple(range(1000)), 1000])
    assert found.dtype == torch.float32
    assert found[0, 0].item() == pytest.approx(np.log(1000), rel=1e-6)


@pytest.mark.parametrize("classes", [[(0, 1), (1, 2)], [(0, 1), 1], [(), 1], [(0, 12)], [(-1, 2), 3]])
def test_groups_that_share_lack_or_exceed_outputs_are_refused(classes: list[int | tuple[int, ...]]) -> None:
    with pytest.raises(UsageError, match="different numbers from 0 to 11"):
        restrict_logits(torch.zeros(2, OUTPUTS), classes)


class _Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4, OUTPUTS)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).relu().mean((2, 3)))  # type: ignore[no-any-return]


def test_the_model_of_a_device_and_the_evidence_use_the_same_logits() -> None:
    torch.manual_seed(0)
    model, normalise = _Linear().eval(), Normalise((0.5,) * 3, (0.5,) * 3)
    classes = ((0, 3, 5), 7, (8, 1))
    pixels = torch.randint(0, 256, (4, 6, 6, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = restrict_logits(model(normalise(pixels)), classes)
        assert torch.equal(Deployed(model, normalise, classes)(pixels), expected)
    images = normalise(pixels)
    found = find_subspaces(model, classes, [images], {"body": 2}, positions=None)["body"]
    grouped = nn.Sequential(model, _Grouped(classes))
    again = find_subspaces(grouped, [0, 1, 2], [images], {"0.body": 2}, positions=None)["0.body"]
    assert torch.allclose(found.basis @ found.basis.T, again.basis @ again.basis.T, atol=1e-5)


class _Grouped(nn.Module):
    """The sum over the members, as the definition has it."""

    def __init__(self, classes: tuple[int | tuple[int, ...], ...]) -> None:
        super().__init__()
        self.members = [[each] if isinstance(each, int) else list(each) for each in classes]

    def forward(self, logits: Tensor) -> Tensor:
        return torch.stack([logits[:, each].exp().sum(1).log() for each in self.members], dim=1)
