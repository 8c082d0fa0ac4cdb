"""Second moments of activations and contexts, gathered in one pass and merged in double precision."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgedistill.compute.processes import gather

# How many samples are summed in single precision before they are added in double precision.
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


class MomentAccumulator:
    """Gathers moments block by block; memory is O(D^2) for any number of samples.

    Every block is centred on its own mean, and blocks are merged as in Chan, Golub & LeVeque 1983, so that a mean much
    larger than the spread costs no digits. The order and division of the samples change the result by rounding alone.

    Args:
        width: D.
        device: where the samples are.
        products: the type in which the products of a block's centred samples are summed. None takes float64, and
            float32 on a GPU, where float64 is up to 64 times slower. Means and merges are float64 in any case, and so
            few samples are in a block that float32 keeps six digits of every covariance.
    """

    def __init__(self, width: int, device: torch.device | str = "cpu", products: torch.dtype | None = None) -> None:
        on_gpu = torch.device(device).type == "cuda"
        self._products = products or (torch.float32 if on_gpu else torch.float64)
        self._clear(width, device)

    def _clear(self, width: int, device: torch.device | str) -> None:
        zeros = torch.zeros(width, dtype=torch.float64, device=device)
        square = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.count = 0
        self._mean = zeros
        self._context_mean = zeros.clone()
        self._activation_scatter = square
        self._context_scatter = square.clone()
        self._cross_scatter = square.clone()

    def update(self, activation: Tensor, context: Tensor) -> None:
        """Add samples: activations (n, D) and the contexts (n, D) at the same positions, of any float type."""
        if not len(activation):
            return
        size = len(activation) if self._products == torch.float64 else BLOCK
        blocks = (torch.split(each.detach(), size) for each in (activation, context))
        for a, c in zip(*blocks, strict=True):
            self._add_block(a.to(self._mean.device, self._products), c.to(self._mean.device, self._products))

    def _add_block(self, a: Tensor, c: Tensor) -> None:
        means = [each.mean(0, dtype=torch.float64) for each in (a, c)]
        mean, context_mean = (each.to(a) for each in means)
        a = a - mean
        # sum((a - mean) c^T) equals sum((a - mean)(c - context_mean)^T), which merges like a covariance.
        products = (a.T @ a, c.T @ c, a.T @ (c - context_mean))
        self._add(len(a), means, [each.double() for each in products])

    def merge_processes(self) -> None:
        """Merge the same accumulator of all training processes, in the processes' order."""
        parts = gather(self._vector())
        if len(parts) == 1:
            return
        width = len(self._mean)
        self._clear(width, self._mean.device)
        for part in parts:
            means, scatters = part[1 : 1 + 2 * width], part[1 + 2 * width :]
            self._add(int(part[0]), means.view(2, width), scatters.view(3, width, width))

    def _vector(self) -> Tensor:
        count = torch.tensor([float(self.count)]).to(self._mean)
        scatters = (self._activation_scatter, self._context_scatter, self._cross_scatter)
        return torch.cat([count, self._mean, self._context_mean, *(each.flatten() for each in scatters)])

    def _add(self, count: int, means: Iterable[Tensor], scatters: Iterable[Tensor]) -> None:
        """Add the means of activations and contexts over `count` samples, the two scatters and the cross scatter."""
        (mean, context_mean), (activation_scatter, context_scatter, cross_scatter) = means, scatters
        total = self.count + count
        if not total:
            return
        step, context_step = mean - self._mean, context_mean - self._context_mean
        weight = self.count * count / total
        self._activation_scatter += activation_scatter + weight * torch.outer(step, step)
        self._context_scatter += context_scatter
        self._cross_scatter += cross_scatter + weight * torch.outer(step, context_step)
        self._mean += step * (count / total)
        self._context_mean += context_step * (count / total)
        self.count = total

    def moments(self) -> Moments:
        """Return the moments of all samples so far, on the CPU; of none they are NaN."""
        count = self.count or float("nan")
        return Moments(
            count=self.count,
            mean=self._mean.cpu().clone(),
            activation_covariance=(self._activation_scatter / count).cpu(),
            context_moment=(self._context_scatter / count).cpu(),
            cross_moment=(self._cross_scatter / count).cpu(),
        )
