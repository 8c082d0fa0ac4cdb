"""SubDistill written out slowly: one image, one position, one sum at a time, in double precision, with numpy alone."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array = npt.NDArray[np.float64]


def evidence(logits: Array) -> float:
    """Largest minus second largest of one image's logits."""
    if len(logits) == 1:
        return float(logits[0])
    ordered = sorted(logits.tolist())
    return float(ordered[-1] - ordered[-2])


def split_model(model: nn.Module, layer: nn.Module, image: Tensor) -> tuple[Array, Callable[[Array], Array]]:
    """Return a layer's output for one image, and the function from a replacement of that output to the logits."""
    kept: list[Array] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        kept.append(output.detach().numpy().astype(np.float64).copy())

    handle = layer.register_forward_hook(keep)
    with torch.no_grad():
        model(image[None])
    handle.remove()

    def logits_with(replacement: Array) -> Array:
        handle = layer.register_forward_hook(lambda *_: torch.from_numpy(replacement.copy()))
        with torch.no_grad():
            logits = model(image[None])[0].numpy().astype(np.float64)
        handle.remove()
        return np.asarray(logits)

    return kept[0], logits_with


def cells(length: int, count: int) -> list[range]:
    """Positions of every cell of adaptive pooling along one axis."""
    return [range((i * length) // count, -((-(i + 1) * length) // count)) for i in range(count)]


def average_cells(values: Array, size: tuple[int, int]) -> Array:
    """Adaptive average pooling of (N, D, H, W)."""
    N, D, H, W = values.shape
    pooled = np.zeros((N, D, *size))
    for i, rows in enumerate(cells(H, size[0])):
        for j, columns in enumerate(cells(W, size[1])):
            block = values[:, :, rows.start : rows.stop, columns.start : columns.stop]
            pooled[:, :, i, j] = block.mean((2, 3))
    return pooled


def context_of_cell(
    evidence_with: Callable[[Array], float], output: Array, rows: range, columns: range, step: float = 1e-6
) -> Array:
    """Central difference of the evidence when each channel of one cell of a map (1, D, H, W) is shifted as a whole:
    (D,)."""
    slopes = np.zeros(output.shape[1])
    for channel in range(output.shape[1]):
        shift = np.zeros_like(output)
        shift[0, channel, rows.start : rows.stop, columns.start : columns.stop] = step
        slopes[channel] = (evidence_with(output + shift) - evidence_with(output - shift)) / (2 * step)
    return slopes


def moments(activation: Array, context: Array) -> dict[str, Array]:
    """Two-pass moments of samples (n, D)."""
    n, D = activation.shape
    mean = activation.sum(0) / n
    A, G, X = np.zeros((D, D)), np.zeros((D, D)), np.zeros((D, D))
    for a, c in zip(activation - mean, context, strict=True):
        A += np.outer(a, a) / n
        G += np.outer(c, c) / n
        X += np.outer(a, c) / n
    return {"mean": mean, "activation_covariance": A, "context_moment": G, "cross_moment": X}


def relevance_matrix(activation: Array, context: Array) -> Array:
    """M as an expectation of outer products and two ridges, not as a sum of four moments."""
    n, D = activation.shape
    centred = activation - activation.sum(0) / n
    s = np.sqrt((context**2).sum() / (centred**2).sum())
    matrix = np.zeros((D, D))
    for a, c in zip(centred, context, strict=True):
        mixed = np.sqrt(s) * a + c / np.sqrt(s)
        matrix += (np.outer(mixed, mixed) + s * np.outer(a, a) + np.outer(c, c) / s) / n
    return matrix


def subspace_loss(
    student: Array, teacher: Array, mean: Array, basis: Array, scale: float, rotation: Array, standardize: bool = False
) -> float:
    """The layer loss in training, of maps that have the same size."""
    N, K, H, W = student.shape
    channel_mean = student.mean((0, 2, 3))
    deviation = np.sqrt(student.var((0, 2, 3)) + 1e-5) if standardize else np.ones(K)
    total = 0.0
    for n in range(N):
        for i in range(H):
            for j in range(W):
                r = rotation @ ((student[n, :, i, j] - channel_mean) / deviation)
                t = basis.T @ (teacher[n, :, i, j] - mean)
                total += float(((r - t) ** 2).sum())
    return float(total / (N * H * W * scale))
