"""A layer's subspace, made from its moments: the matrix of each method, and its leading directions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgedistill.checks import check_choice
from edgedistill.config import SUBSPACE_METHODS
from edgedistill.subspaces.moments import Moments
from edgedistill_deploy.errors import EdgeDistillError, UsageError

# A variance below this part of the activations' mean square is a rounding error of single precision.
SMALLEST_VARIANCE = 1e-13
# The losses compute in single precision, which has no much smaller numbers.
SMALLEST_SQUARE = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """Directions of a layer that matter to the subtask; all tensors float64 on the CPU.

    Attributes:
        layer: dotted name in the teacher.
        mean: mu (D,).
        basis: U (D, K), orthonormal columns by falling eigenvalue; K is at most D. The largest entry of every column is
            positive.
        eigenvalues: all of the method's matrix, falling (D,). `random` and `identity` have no matrix: these are the
            variances along the directions, in the directions' order.
        variance: v_i = u_i^T A u_i along the basis columns (K,).
        sample_count: number of positions of images in the moments.
        method: the one that found it; empty where it is unknown.
    """

    layer: str
    mean: Tensor
    basis: Tensor
    eigenvalues: Tensor
    variance: Tensor
    sample_count: int
    method: str = ""

    @property
    def scale(self) -> float:
        """V, the variance inside the subspace, which puts the losses of all layers on one scale."""
        return float(self.variance.sum())


def subspace_from(moments: Moments, rank: int, *, layer: str, method: str = "prca", seed: int = 0) -> Subspace:
    """Turn a layer's moments into its subspace of rank min(K, D).

    Raises:
        UsageError: an unknown method, or a rank below 1.
        EdgeDistillError: the moments are not finite, the context is 0 where the method needs it, or there is no
            variance inside the subspace; the message names the layer.
    """
    check_choice("method", method, SUBSPACE_METHODS)
    check_rank(layer, rank)
    _check_finite(moments, layer)
    _check_variance(moments, moments.activation_covariance.diagonal(), layer)
    eigenvalues, directions = _directions(moments, layer, method, seed)
    basis = _with_fixed_signs(directions[:, :rank])
    variance = _variance_along(basis, moments.activation_covariance)
    _check_variance(moments, variance, layer)
    return Subspace(
        layer=layer,
        mean=moments.mean,
        basis=basis,
        eigenvalues=eigenvalues,
        variance=variance,
        sample_count=moments.count,
        method=method,
    )


def check_rank(layer: str, rank: int) -> None:
    """Refuse a rank that leaves no direction."""
    if rank < 1:
        raise UsageError(f"The rank of layer {layer!r} must be at least 1, and {rank} was given.")


def _directions(moments: Moments, layer: str, method: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (D,) and all directions (D, D) of a method, the most relevant first."""
    covariance = moments.activation_covariance
    if method in _MATRICES:
        rising, vectors = torch.linalg.eigh(_MATRICES[method](moments, layer))
        return rising.flip(0), vectors.flip(1)
    width = len(covariance)
    directions = _random_directions(width, seed) if method == "random" else torch.eye(width).double()
    return _variance_along(directions, covariance), directions


def _check_variance(moments: Moments, variance: Tensor, layer: str) -> None:
    square = moments.activation_covariance.trace() + moments.mean.square().sum()
    if not float(variance.sum()) > max(SMALLEST_VARIANCE * float(square), SMALLEST_SQUARE):
        raise EdgeDistillError(
            f"The layer {layer!r} has no variance inside its subspace of rank {len(variance)}: its outputs there are "
            "constant over the images, or nearly 0. Pair another layer, or give more and more varied images."
        )


def _check_finite(moments: Moments, layer: str) -> None:
    parts = (moments.mean, moments.activation_covariance, moments.context_moment, moments.cross_moment)
    if not all(bool(part.isfinite().all()) for part in parts):
        raise EdgeDistillError(
            f"The activations or gradients of layer {layer!r} are not all finite numbers, so it has no subspace; check "
            "the teacher's weights and its input normalisation."
        )


def relevance_matrix(moments: Moments, layer: str) -> Tensor:
    """Return M = X + X^T + 2 s A + (2 / s) G with s = sqrt(tr G / tr A) (Chormai et al. 2026).

    M = E[(sqrt(s) a' + c / sqrt(s))(...)^T] + s A + G / s, so it is positive semi-definite.
    """
    A, G, cross = moments.activation_covariance, moments.context_moment, _cross(moments, layer)
    s = torch.sqrt(G.trace() / A.trace())
    return cross + 2 * s * A + (2 / s) * G


def _cross(moments: Moments, layer: str) -> Tensor:
    """Return X + X^T, the matrix of plain PRCA (Chormai et al., TPAMI 2024), which may be indefinite."""
    _check_context(moments, layer)
    return moments.cross_moment + moments.cross_moment.T


def _gradient_moment(moments: Moments, layer: str) -> Tensor:
    _check_context(moments, layer)
    return moments.context_moment


_MATRICES: dict[str, Callable[[Moments, str], Tensor]] = {
    "prca": relevance_matrix,
    "prca_indefinite": _cross,
    "pca": lambda moments, _: moments.activation_covariance,
    "gradient": _gradient_moment,
}


def _check_context(moments: Moments, layer: str) -> None:
    if not float(moments.context_moment.trace()) > 0:
        raise EdgeDistillError(
            f"The context is 0 at layer {layer!r}, at every position drawn from every image: the logits do not depend "
            "on its map (as after the last attention of a transformer, where only the class token counts), or at few "
            "positions alone. Pair another layer, draw more positions, or use method pca."
        )


def _random_directions(width: int, seed: int) -> Tensor:
    draws = torch.from_numpy(np.random.default_rng(seed).standard_normal((width, width)))
    directions: Tensor = torch.linalg.qr(draws).Q
    return directions


def _variance_along(directions: Tensor, covariance: Tensor) -> Tensor:
    return (directions * (covariance @ directions)).sum(0)


def _with_fixed_signs(basis: Tensor) -> Tensor:
    """Make the largest entry of every column positive: an eigenvector has no sign, and files must be reproducible."""
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * torch.where(largest < 0, -1.0, 1.0)).contiguous()
