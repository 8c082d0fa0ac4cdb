import itertools
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgedistill.subspaces.directions import relevance_matrix
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from reference import slow_subdistill

FIELDS = ("mean", "activation_covariance", "context_moment", "cross_moment")


def samples(count: int, width: int, seed: int, mean: float = 3.0) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    context = rng.standard_normal((count, width)) + 0.5
    activation = mean + rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + 0.3 * context
    return torch.from_numpy(activation), torch.from_numpy(context)


def gathered(activation: Tensor, context: Tensor, cuts: list[int]) -> MomentAccumulator:
    accumulator = MomentAccumulator(activation.shape[1])
    for start, end in itertools.pairwise([0, *sorted(cuts), len(activation)]):
        accumulator.update(activation[start:end], context[start:end])
    return accumulator


def assert_close(found: Moments, expected: dict[str, np.ndarray], rtol: float = 1e-11) -> None:
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field).numpy(), expected[field], rtol=rtol, atol=1e-11)


@given(st.lists(st.integers(0, 60), max_size=6), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_any_split_into_blocks_gives_the_two_pass_moments(cuts: list[int], width: int, seed: int) -> None:
    activation, context = samples(60, width, seed)
    found = gathered(activation, context, cuts).moments()
    assert found.count == 60
    assert_close(found, slow_subdistill.moments(activation.numpy(), context.numpy()))


@given(st.integers(0, 60), st.lists(st.integers(0, 30), max_size=3), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_accumulators_of_any_two_processes_merge_to_the_whole(part: int, cuts: list[int], seed: int) -> None:
    activation, context = samples(60, 4, seed)
    left = gathered(activation[:part], context[:part], [cut for cut in cuts if cut <= part])
    right = gathered(activation[part:], context[part:], [cut for cut in cuts if cut <= 60 - part])
    both = torch.stack([left._vector(), right._vector()])
    with patch("edgedistill.subspaces.moments.gather", lambda _: both):
        left.merge_processes()
    assert_close(left.moments(), slow_subdistill.moments(activation.numpy(), context.numpy()))


def test_float32_activations_with_a_mean_a_thousand_times_their_spread_keep_their_digits() -> None:
    activation, context = samples(5000, 6, 1, mean=0.0)
    activation = (activation + 3000.0).float()
    found = gathered(activation, context.float(), list(range(0, 5000, 64))).moments()
    exact = slow_subdistill.moments(activation.double().numpy(), context.float().double().numpy())
    assert_close(found, exact, rtol=1e-9)


def test_sums_of_single_precision_keep_six_digits_where_the_mean_is_a_thousand_times_the_spread() -> None:
    """As on a GPU. The samples are more than a block, and no whole number of them."""
    activation, context = samples(5000, 6, 1, mean=0.0)
    activation, context = (activation + 3000.0).float(), context.float()
    accumulator = MomentAccumulator(6, products=torch.float32)
    accumulator.update(activation, context)
    found = accumulator.moments()
    exact = slow_subdistill.moments(activation.double().numpy(), context.double().numpy())
    np.testing.assert_allclose(found.mean.numpy(), exact["mean"], rtol=1e-14)
    for field in FIELDS[1:]:
        error = np.abs(getattr(found, field).numpy() - exact[field]).max()
        assert error < 2e-6 * np.abs(exact[field]).max(), field


@given(st.integers(1, 12), st.integers(1, 8), st.floats(1e-3, 1e3), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_relevance_matrix_is_positive_semi_definite_whatever_the_data(
    count: int, width: int, size: float, seed: int
) -> None:
    activation, context = samples(count + 1, width, seed)
    matrix = relevance_matrix(gathered(activation * size, -context / size, []).moments(), "layer")
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] >= -1e-12 * values[-1]


def test_the_relevance_matrix_is_the_expectation_it_is_defined_as() -> None:
    activation, context = samples(50, 5, 3)
    found = relevance_matrix(gathered(activation, context, [20]).moments(), "layer")
    np.testing.assert_allclose(
        found.numpy(), slow_subdistill.relevance_matrix(activation.numpy(), context.numpy()), rtol=1e-11
    )


def test_moments_of_nothing_are_not_numbers() -> None:
    found = MomentAccumulator(2).moments()
    assert found.count == 0
    assert bool(found.activation_covariance.isnan().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_memory_and_type_do_not_depend_on_the_input(dtype: torch.dtype) -> None:
    accumulator = MomentAccumulator(3)
    accumulator.update(torch.ones(4, 3, dtype=dtype), torch.ones(4, 3, dtype=dtype))
    assert accumulator.moments().mean.dtype is torch.float64


@pytest.mark.parametrize("mean", [0.0, 3000.0])
def test_blocks_multiplied_in_single_precision_lose_no_more_than_their_samples_have(mean: float) -> None:
    activation, context = samples(5000, 6, 1, mean=0.0)
    activation, context = (activation + mean).float(), (context + mean / 1000).float()
    accumulator = MomentAccumulator(6, products=torch.float32)
    for start in range(0, 5000, 64):
        accumulator.update(activation[start : start + 64], context[start : start + 64])
    found = accumulator.moments()
    exact = slow_subdistill.moments(activation.double().numpy(), context.double().numpy())
    np.testing.assert_allclose(found.mean.numpy(), exact["mean"], rtol=1e-12)
    for field in FIELDS[1:]:
        size = float(np.abs(exact[field]).max())
        np.testing.assert_allclose(getattr(found, field).numpy(), exact[field], rtol=0, atol=2e-6 * size)


def test_samples_that_wait_for_a_block_are_counted_and_merged() -> None:
    activation, context = samples(3000, 4, 5)
    accumulator = MomentAccumulator(4)
    for start in range(0, 3000, 700):
        accumulator.update(activation[start : start + 700], context[start : start + 700])
        accumulator.moments()  # looking changes nothing
        assert accumulator.count == min(start + 700, 3000)
    assert_close(accumulator.moments(), slow_subdistill.moments(activation.numpy(), context.numpy()))
