import numpy as np
import pytest
import torch
from torch import Tensor

from edgedistill.losses.polar import polar_by_products, polar_factor

SHAPES = [(16, 16), (5, 12)]


def with_values(shape: tuple[int, int], values: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix with these singular values, and its polar factor, made from the same singular vectors."""
    rng = np.random.default_rng(3)
    left = np.linalg.qr(rng.standard_normal((shape[0], shape[0])))[0]
    right = np.linalg.qr(rng.standard_normal((shape[1], shape[0])))[0].T
    matrix = left @ np.diag(values.double().numpy()) @ right
    return torch.from_numpy(matrix).float(), torch.from_numpy(left @ right).float()


def is_orthogonal(found: Tensor) -> bool:
    return bool((found @ found.T - torch.eye(len(found))).abs().max() < 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_products_find_the_polar_factor_whatever_the_matrix_size(shape: tuple[int, int], size: float) -> None:
    matrix, expected = with_values(shape, size * torch.logspace(0, -3, shape[0]))
    for found in (polar_by_products(matrix, torch.eye(*shape)), polar_factor(matrix, torch.eye(*shape))):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
        assert is_orthogonal(found)


@pytest.mark.parametrize("shape", SHAPES)
def test_where_there_is_next_to_nothing_the_previous_factor_holds(shape: tuple[int, int]) -> None:
    previous = with_values(shape, torch.ones(shape[0]))[1]
    torch.testing.assert_close(polar_by_products(torch.zeros(*shape), previous), previous, rtol=0, atol=1e-5)
    matrix, _ = with_values(shape, torch.logspace(0, -12, shape[0]))
    assert is_orthogonal(polar_by_products(matrix, previous))


def test_a_channel_that_is_always_0_keeps_its_column_apart_from_the_others() -> None:
    matrix, _ = with_values((16, 16), torch.linspace(1, 2, 16))
    matrix[:, 4] = 0
    found = polar_by_products(matrix, torch.eye(16))
    assert is_orthogonal(found)
    others = torch.arange(16) != 4
    left, _, right = torch.linalg.svd(matrix[:, others], full_matrices=False)
    torch.testing.assert_close(found[:, others], left @ right, rtol=0, atol=1e-3)


def test_what_is_not_finite_changes_nothing() -> None:
    previous = torch.eye(3)
    assert polar_factor(torch.full((3, 3), float("nan")), previous) is previous
