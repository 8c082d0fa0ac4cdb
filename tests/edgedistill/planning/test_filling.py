"""Channels that fill the kernels: counted by hand, and found a little above a width that does not."""

import pytest
from torch import nn

from edgedistill.planning.candidates import Candidate
from edgedistill.planning.filling import find_filled, unfilled_share

SIZE = (32, 32)


def build(candidate: Candidate) -> nn.Module:
    return candidate.build(3, SIZE)


def test_the_share_is_that_of_the_multiply_adds_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),  # 12 of 32 x 32, from 27 numbers each
        nn.Conv2d(12, 16, 1, stride=2),  # 16 of 16 x 16, from 12
        nn.Conv2d(16, 16, 3, padding=1, groups=16),  # 16 of 16 x 16, from 9
    ).train()
    unfilled, filled = 12 * 32 * 32 * 27, 16 * 16 * 16 * (12 + 9)
    assert unfilled_share(network, SIZE) == pytest.approx(unfilled / (unfilled + filled))
    assert network.training
    assert not any(layer._forward_hooks for layer in network)


@pytest.mark.parametrize(("given", "widths"), [("timm:resnet10t@0.35", (24, 48, 96, 192)), ("plain:8-16@0.7", (8, 16))])
def test_a_width_that_fills_no_kernel_gets_the_next_one_that_does(given: str, widths: tuple[int, ...]) -> None:
    candidate = Candidate.parse(given)
    found = find_filled(candidate, build, SIZE)
    assert found is not None
    assert (found.name, found.width > candidate.width) == (candidate.name, True)
    made = {layer.out_channels for layer in build(found).modules() if isinstance(layer, nn.Conv2d)}
    assert set(widths) <= made
    assert unfilled_share(build(found), SIZE) < 0.1 <= unfilled_share(build(candidate), SIZE)


@pytest.mark.parametrize(
    "given",
    [
        "timm:resnet10t@0.5",  # fills them already
        "timm:resnet10t",  # nothing is scaled
        "plain:6-12",  # somebody chose these channels
        "timm:mobilenetv4_conv_small@0.3",  # cannot be scaled, which the plan says
        "teacher:0.37",  # shrinking rounds by itself
    ],
)
def test_other_candidates_stay_alone(given: str) -> None:
    assert find_filled(Candidate.parse(given), build, SIZE) is None
