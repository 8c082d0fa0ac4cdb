"""A network whose normalisations are folded answers as it did, without them; what cannot be folded stays."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from edgedistill.networks.folding import Fold, find_folds, folded

SIZES: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Callable[..., nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the normalisations that are computed."""

    computed = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.computed += "batch_norm" in str(func)
        return func(*args, **(kwargs or {}))


def settled(model: nn.Module) -> nn.Module:
    """Give a model the statistics, scales and shifts of a trained one, and double precision."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) and module.running_mean is not None:
            module.running_mean.normal_()
            assert module.running_var is not None
            module.running_var.uniform_(0.1, 3)
            if module.affine:
                nn.init.uniform_(module.weight, -2, 2)
                nn.init.normal_(module.bias)
    return model.double().eval()


def check(model: nn.Module, images: Tensor, expected: list[Fold], kept: int = 0) -> None:
    """Compare the folds that are found, and the answers and the number of normalisations inside and after the block."""
    settled(model)
    before = {name: values.clone() for name, values in model.state_dict().items()}
    folds = find_folds(model, images)
    assert folds == expected
    with torch.no_grad():
        usual = model(images)
        with folded(model, folds), Counting() as counting:  # type: ignore[no-untyped-call]
            torch.testing.assert_close(model(images), usual, rtol=1e-10, atol=1e-10)
        assert counting.computed == kept
        assert torch.equal(model(images), usual)
    assert all(torch.equal(before[name], values) for name, values in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@given(
    axes=st.sampled_from([1, 2, 3]), groups=st.sampled_from([1, 2, 4]), bias=st.booleans(), affine=st.booleans(),
    eps=st.sampled_from([1e-5, 1e-3]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_a_convolution_takes_its_normalisation_over(
    axes: int, groups: int, bias: bool, affine: bool, eps: float
) -> None:
    convolution = SIZES[axes](4, 8, 3, groups=groups, bias=bias)
    model = nn.Sequential(convolution, NORMS[axes](8, eps=eps, affine=affine), nn.ReLU())
    check(model, torch.randn(2, 4, *[6] * axes, dtype=torch.double), [Fold("0", "1")])


class Network(nn.Module):
    """A convolution and a normalisation, used as `way` says."""

    def __init__(self, way: Callable[["Network", Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.way = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), way

    def forward(self, images: Tensor) -> Tensor:
        return self.way(self, images)


def read_twice(net: Network, images: Tensor) -> Tensor:
    made: Tensor = net.conv(images)
    return torch.cat([net.norm(made), made], dim=1)


def changed_in_place(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(net.conv(images).relu_())
    return answer


def run_twice(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.conv(net.norm(net.conv(images)))
    return answer


def normalised_twice(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(net.norm(net.conv(images)))
    return answer


def other_weights(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(F.conv2d(images, net.conv.weight.tanh(), net.conv.bias))
    return answer


def multiplied(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(torch.mul(images, net.conv.weight.reshape(3, 3)[:, :1, None]))
    return answer


def in_parts(net: Network, images: Tensor) -> Tensor:
    made: Tensor = net.conv(images)
    answer: Tensor = net.norm(made)
    return torch.cat([answer, *made.chunk(3, dim=1)], dim=1)


def largest(net: Network, images: Tensor) -> Tensor:
    made: Tensor = net.conv(images)
    answer: Tensor = net.norm(made)
    return answer + made.max(dim=1, keepdim=True)[0]


def as_a_number(net: Network, images: Tensor) -> Tensor:
    made: Tensor = net.conv(images)
    answer: Tensor = net.norm(made)
    return answer * made.sum().item()


def weight_again(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(net.conv(images))
    return answer + net.conv.weight.mean()


def bias_again(net: Network, images: Tensor) -> Tensor:
    answer: Tensor = net.norm(net.conv(images))
    assert net.conv.bias is not None
    return answer + net.conv.bias[:, None, None]


WAYS = (
    read_twice, changed_in_place, run_twice, normalised_twice, other_weights, multiplied, in_parts, largest,
    as_a_number, weight_again, bias_again,
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_something_else_depends_on_is_not_folded(way: Callable[[Network, Tensor], Tensor]) -> None:
    model = Network(way)
    check(model, torch.randn(2, 3, 4, 4, dtype=torch.double), [], kept=2 if way is normalised_twice else 1)


def test_a_convolution_that_shares_its_weights_is_not_folded() -> None:
    first, second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    second.weight = first.weight
    model = nn.Sequential(first, nn.BatchNorm2d(3), second, nn.BatchNorm2d(3))
    check(model, torch.randn(2, 3, 4, 4, dtype=torch.double), [], kept=2)


def test_a_form_that_is_asked_for_does_no_harm() -> None:
    def way(net: Network, images: Tensor) -> Tensor:
        made: Tensor = net.conv(images)
        answer: Tensor = net.norm(made)
        return answer.reshape(made.shape[0], made.size(1), -1)

    check(Network(way), torch.randn(2, 3, 4, 4, dtype=torch.double), [Fold("conv", "norm")])


def test_a_normalisation_by_the_batch_itself_is_not_folded() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))
    check(model, torch.randn(2, 3, 4, 4, dtype=torch.double), [], kept=1)


def test_a_module_that_does_more_than_normalise_does_the_rest() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, values: Tensor) -> Tensor:
            return super().forward(values).tanh()

    model = nn.Sequential(nn.Conv2d(3, 5, 1), Activated(5))
    check(model, torch.randn(2, 3, 4, 4, dtype=torch.double), [Fold("0", "1")])


def test_an_error_inside_leaves_nothing_behind() -> None:
    class Failing(nn.BatchNorm2d):
        fails = False

        def forward(self, values: Tensor) -> Tensor:
            if self.fails:
                raise RuntimeError("on purpose")
            return super().forward(values)

    norm = Failing(5)
    model = settled(nn.Sequential(nn.Conv2d(3, 5, 1), norm))
    images = torch.randn(2, 3, 4, 4, dtype=torch.double)
    usual, folds = model(images), find_folds(model, images)
    norm.fails = True
    with pytest.raises(RuntimeError, match="on purpose"), folded(model, folds):
        model(images)
    norm.fails = False
    assert torch.equal(model(images), usual)
