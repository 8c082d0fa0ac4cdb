"""Second moments of activations and contexts, gathered in one pass and merged in double precision."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgedistill.compute.processes import gather

# How many samples are summed in single precision at most before they are added in double precision.
BLOCK = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Moments of activations a and contexts c over `count` samples (Chormai et al. 2026, section 2), all float64.

    Attributes:
        count: number of samples, which are positions of images.
        mean: mu = E[a], (D,).
        activation_covariance: A = E[(a - mu)(a - mu)^T], (D, D).
        context_moment: G = E[c c^T], (D, D); contexts are not centred.
        cross_moment: X = E[(a - mu) c^T], (D, D).
    """

    count: int
    mean: Tensor
    activation_covariance: Tensor
    context_moment: Tensor
    cross_moment: Tensor


# Fewer samples than this, or than D, wait for more: merging a block takes O(D^2), however few samples it has.
_BLOCK = 1024


class MomentAccumulator:
    """Gathers moments block by block; memory is O(D^2) for any number of samples.

    Every block is centred on its own mean, and blocks are merged as in Chan, Golub & LeVeque 1983, so that a mean much
    larger than the spread costs no digits. The order and division of the samples change the result by rounding alone.

    Args:
        width: D.
        device: where the moments are kept.
        products: in which format a block's samples are multiplied. None: float64, but float32 on CUDA, where most GPUs
            do float64 at a thirty-second or less of the rate; blocks are centred and merged in float64 either way.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu", products: torch.dtype | None = None) -> None:
        self._products = products or _products_on(torch.device(device))
        self._block = max(_BLOCK, width)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._clear(width, device)

    def _clear(self, width: int, device: torch.device | str) -> None:
        zeros = torch.zeros(width, dtype=torch.float64, device=device)
        square = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.count = 0
        self._merged = 0
        self._mean = zeros
        self._context_mean = zeros.clone()
        self._activation_scatter = square
        self._context_scatter = square.clone()
        self._cross_scatter = square.clone()

    def update(self, activation: Tensor, context: Tensor) -> None:
        """Add samples: activations (n, D) and the contexts (n, D) at the same positions, of any float type.

        They are held until a block is whole, so the caller must not write over them.
        """
        if not len(activation):
            return
        self.count += len(activation)
        self._waiting.append((activation.detach().to(self._mean.device), context.detach().to(self._mean.device)))
        if sum(len(each) for each, _ in self._waiting) >= self._block:
            self._merge_waiting()

    def _merge_waiting(self) -> None:
        if self._waiting:
            samples = [torch.cat(parts) for parts in zip(*self._waiting, strict=True)]
            self._waiting.clear()
            size = len(samples[0]) if self._products == torch.float64 else max(BLOCK, self._block)
            for a, c in zip(*(torch.split(each, size) for each in samples), strict=True):
                self._add(len(a), *_means_and_scatters(a, c, self._products))

    def merge_processes(self) -> None:
        """Merge the same accumulator of all training processes, in the processes' order."""
        self._merge_waiting()
        parts = gather(self._vector())
        if len(parts) == 1:
            return
        width = len(self._mean)
        self._clear(width, self._mean.device)
        for part in parts:
            means, scatters = part[1 : 1 + 2 * width], part[1 + 2 * width :]
            self._add(int(part[0]), means.view(2, width), scatters.view(3, width, width))
        self.count = self._merged

    def _vector(self) -> Tensor:
        self._merge_waiting()
        count = torch.tensor([float(self._merged)]).to(self._mean)
        scatters = (self._activation_scatter, self._context_scatter, self._cross_scatter)
        return torch.cat([count, self._mean, self._context_mean, *(each.flatten() for each in scatters)])

    def _add(self, count: int, means: Iterable[Tensor], scatters: Iterable[Tensor]) -> None:
        """Add the means of activations and contexts over `count` samples, the two scatters and the cross scatter."""
        (mean, context_mean), (activation_scatter, context_scatter, cross_scatter) = means, scatters
        total = self._merged + count
        if not total:
            return
        step, context_step = mean - self._mean, context_mean - self._context_mean
        weight = self._merged * count / total
        self._activation_scatter += activation_scatter + weight * torch.outer(step, step)
        self._context_scatter += context_scatter
        self._cross_scatter += cross_scatter + weight * torch.outer(step, context_step)
        self._mean += step * (count / total)
        self._context_mean += context_step * (count / total)
        self._merged = total

    def moments(self) -> Moments:
        """Return the moments of all samples so far, on the CPU; of none they are NaN."""
        self._merge_waiting()
        count = self.count or float("nan")
        return Moments(
            count=self.count,
            mean=self._mean.cpu().clone(),
            activation_covariance=(self._activation_scatter / count).cpu(),
            context_moment=(self._context_scatter / count).cpu(),
            cross_moment=(self._cross_scatter / count).cpu(),
        )


def _products_on(device: torch.device) -> torch.dtype:
    # TensorFloat-32, which users can allow, keeps ten bits: too few.
    exact = torch.get_float32_matmul_precision() == "highest"
    return torch.float32 if device.type == "cuda" and exact else torch.float64


def _means_and_scatters(
    activation: Tensor, context: Tensor, products: torch.dtype
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Return the means (D,) of a block (n, D), and the scatters (D, D), all float64.

    These are the sums of (a - mean)(a - mean)^T, of c c^T, and of (a - mean) c^T, which equals the sum of
    (a - mean)(c - context mean)^T and so merges like a covariance.
    """
    count = len(activation)
    (a, mean, left), (c, context_mean, context_left) = (_centre(each, products) for each in (activation, context))
    # What rounding left of each mean is in every sample, so it is taken out of the sums.
    scatter = (a.T @ a).double() - count * torch.outer(left, left)
    cross = (a.T @ c).double() - count * torch.outer(left, context_left)
    around = (c.T @ c).double() - count * torch.outer(context_left, context_left)
    return (mean, context_mean), (scatter, around + count * torch.outer(context_mean, context_mean), cross)


def _centre(samples: Tensor, products: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return samples (n, D) less their rounded mean, their mean, and the difference of the two means, float64."""
    wide = torch.promote_types(samples.dtype, products)
    samples = samples.to(wide)
    mean = samples.mean(0, dtype=torch.float64)
    rounded = mean.to(wide)
    return samples - rounded, mean, mean - rounded.double()
