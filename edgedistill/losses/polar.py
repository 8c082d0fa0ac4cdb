"""The polar factor of a matrix: the matrix with orthonormal rows that is nearest to it."""

import torch
from torch import Tensor

# Of a matrix of norm 1, singular values below this are lost in the rounding of single precision. There the factor
# follows the previous one.
LEAST = 1e-6
# A small value grows by 15 / 8 in each, so 22 bring 1e-6 near 1. Some more bring the value to 1 exactly, also where the
# previous factor has only a part of what is missing.
STEPS = 34


def polar_factor(matrix: Tensor, previous: Tensor) -> Tensor:
    """Return the polar factor of a matrix (r, K), r at most K; `previous` where the matrix is not finite.

    On a GPU a decomposition waits for the host, and takes longer than a small student's step. So the factor is computed
    there by products of matrices alone.

    Args:
        matrix: float32.
        previous: the factor of before (r, K), with orthonormal rows.
    """
    if matrix.device.type == "cuda":
        return torch.where(matrix.isfinite().all(), polar_by_products(matrix, previous), previous)
    if not bool(matrix.isfinite().all()):
        return previous
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    factor: Tensor = left @ right
    return factor


def polar_by_products(matrix: Tensor, previous: Tensor) -> Tensor:
    """Return the polar factor of a finite matrix (r, K) by Newton's iteration in Schulz's form, of degree 5.

    Each step X (15 - 10 X^T X + 3 (X^T X)^2) / 8 keeps the singular vectors and moves each singular value in (0, 1]
    towards 1 (Kovarik 1970; Björck & Bowie 1971). Where the matrix has next to no singular value, as for a channel that
    is always 0, the result is that of `previous`.
    """
    norm = torch.linalg.matrix_norm(matrix).clamp_min(torch.finfo(matrix.dtype).tiny)
    values: Tensor = matrix / norm + LEAST * previous
    for _ in range(STEPS):
        square = values @ values.T
        values = 1.875 * values + (0.375 * (square @ square) - 1.25 * square) @ values
    return values
