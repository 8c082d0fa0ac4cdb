"""A batch in parts gives what it gives at once, in the same order."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedistill.compute import parts
from edgedistill.compute.parts import answer_in_parts, parts_of


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 2000))
@settings(max_examples=100, deadline=None)
def test_parts_are_the_batch_in_its_order_and_none_is_larger_than_allowed(count: int, each: int, allowed: int) -> None:
    batch = torch.arange(count * each).reshape(count, each)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "NUMBERS", allowed)
        found = parts_of(batch)
    assert torch.equal(torch.cat(list(found)), batch)
    assert all(len(part) == 1 or part.numel() <= allowed for part in found)
    assert (len(found) > 1) == (batch.numel() > allowed and count > 1)


def test_a_network_answers_in_parts_as_it_does_at_once() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten())
    images = torch.rand(21, 3, 224, 224)
    seen: list[int] = []

    def model(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        answers: Tensor = network(batch)
        return answers

    with torch.no_grad():
        torch.testing.assert_close(answer_in_parts(model, images), network(images), rtol=1e-4, atol=1e-5)
    assert seen == [8, 8, 5]
