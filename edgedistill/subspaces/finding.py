"""The subspaces of several layers of a teacher, for a subtask, found in one pass over its images."""

import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.checks import check_at_least, check_choice
from edgedistill.compute.transfer import Fetched, send
from edgedistill.config import SUBSPACE_METHODS
from edgedistill.networks.layers import maps_and_contexts
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.subspaces._batching import images_at_once
from edgedistill.subspaces.directions import Subspace, check_rank, subspace_from
from edgedistill.subspaces.evidence import evidence
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Which vectors of the layers' maps count: pooled to `map_sizes`, at `positions` of each image."""

    map_sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    positions: int | None = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least("seed", self.seed, 0)
        if self.positions is not None and self.positions < 1:
            raise UsageError(f"positions must be at least 1, or None for all, and {self.positions} was given.")


def find_subspaces(
    model: nn.Module,
    class_indices: ClassIndices,
    batches: Iterable[Tensor],
    ranks: Mapping[str, int],
    *,
    map_sizes: Mapping[str, tuple[int, int]] | None = None,
    method: str = "prca",
    positions: int | None = 20,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Subspace]:
    """Find the subspaces of several layers of a teacher (Chormai et al. 2026, sections 2 and 3).

    One forward pass and one backward pass per batch serve all layers. The backward pass stops at the shallowest layer
    and computes no parameter gradient. The model's mode, `requires_grad`, gradients and hooks stay as they were.

    Contexts of pooled maps: a map larger than its `map_sizes` is averaged down to that size, as in the loss, and the
    moments are those of the averages p. The context of p is the derivative of the evidence when all positions of p's
    cell move together: the *sum* of the gradients in the cell. (A mean would differ by the size of the cell, which the
    factor s in the matrix M cancels.) Pooling to one position gives the gradient of a shift of the whole channel.

    Positions are drawn without replacement for each image, by a generator seeded with `seed`, the map's size and the
    image's own pixels: the order of images and the batch size change the result by rounding alone.

    Args:
        model: the teacher; takes normalised images and returns logits (N, classes).
        class_indices: the subtask's columns of those logits, or for a group those of its members.
        batches: normalised float images (n, 3, H, W) on the model's device.
        ranks: {layer: K}. A K above the layer's width D means all D directions.
        map_sizes: {layer: (H, W)} of the student's map that the layer is compared with; other layers keep their map.
        method: `prca` | `prca_indefinite` | `pca` | `gradient` | `random` | `identity`.
        positions: drawn from each image's map; None uses all.
        seed: fixes the positions, and the directions of `random`.
        progress: called after every batch with the number of images so far; how many there are is not known.

    Raises:
        UsageError: an unknown layer or method, a rank or positions below 1, or class indices outside the outputs.
        DataError: there were no images.
        EdgeDistillError: a layer's moments are not finite, or its subspace has no variance; the message names it.
    """
    check_choice("method", method, SUBSPACE_METHODS)
    for name, rank in ranks.items():
        check_rank(name, rank)
    if not ranks:
        return {}
    moments = gather_moments(
        model,
        class_indices,
        batches,
        tuple(ranks),
        Sampling(map_sizes=map_sizes or {}, positions=positions, seed=seed),
        progress=progress,
    )
    return {
        name: subspace_from(moments[name], rank, layer=name, method=method, seed=seed) for name, rank in ranks.items()
    }


def gather_moments(
    model: nn.Module,
    class_indices: ClassIndices,
    batches: Iterable[Tensor],
    layers: Sequence[str],
    sampling: Sampling,
    *,
    progress: Progress = silent,
) -> dict[str, Moments]:
    """Gather the moments of several layers in one pass; `subspace_from` makes any method's subspace from them.

    Arguments, pooling and drawn positions are those of `find_subspaces`. A batch too large for the memory is taken in
    parts, see `images_at_once`. When several processes train together, each passes over its share of the images, and
    all return the moments of all images.

    Raises:
        UsageError: an unknown layer, class indices outside the outputs.
        DataError: there were no images.
    """
    accumulators: dict[str, MomentAccumulator] = {}
    look = functools.partial(_look, model, class_indices, layers, sampling)
    count, at_once = 0, 0
    for images in batches:
        at_once = at_once or images_at_once(look, images, model)
        for part in torch.split(images, at_once):
            for name, (activation, context) in look(part).items():
                accumulators.setdefault(name, _accumulator_for(activation)).update(activation, context)
        count += len(images)
        progress(count, 0)
    if not count:
        raise DataError("There are no images to find subspaces with; give at least one batch.")
    for name in layers:
        accumulators[name].merge_processes()
    return {name: accumulators[name].moments() for name in layers}


def _look(
    model: nn.Module, class_indices: ClassIndices, layers: Sequence[str], sampling: Sampling, images: Tensor
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the layers' drawn vectors (N * P, D) of activations and of contexts.

    They are drawn where the passes make the maps, so that no map is held.
    """
    drawn = _DrawnPositions(images, sampling)
    return maps_and_contexts(
        model,
        layers,
        images,
        lambda outputs: evidence(restrict_logits(outputs, class_indices)).sum(),
        keep_map=lambda name, values: drawn.of(_average(values, sampling.map_sizes.get(name))),
        keep_context=lambda name, values: drawn.of(_sum_cells(values, sampling.map_sizes.get(name))),
    )


def _accumulator_for(activation: Tensor) -> MomentAccumulator:
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if activation.device.type == "mps" else activation.device
    return MomentAccumulator(activation.shape[-1], device)


def _average(activation: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Average a map (N, D, H, W) down to at most `size`."""
    return F.adaptive_avg_pool2d(activation, _within(activation, size))


def _sum_cells(context: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Sum a map's context (N, D, H, W) over the cells over which `_average` averages the map."""
    H, W = context.shape[2:]
    h, w = _within(context, size)
    cells = torch.outer(_cell_lengths(H, h), _cell_lengths(W, w)).to(context)
    return F.adaptive_avg_pool2d(context, (h, w)) * cells


def _within(values: Tensor, size: tuple[int, int] | None) -> tuple[int, int]:
    H, W = values.shape[2:]
    return (H, W) if size is None else (min(H, size[0]), min(W, size[1]))


def _cell_lengths(length: int, count: int) -> Tensor:
    """Return how many positions each cell of adaptive pooling covers along one axis; neighbours may overlap."""
    start = torch.arange(count) * length // count
    end = -((torch.arange(1, count + 1) * -length) // count)
    return end - start


class _DrawnPositions:
    """The positions that count in a batch of normalised images (N, 3, H, W): the same in a map and in its context."""

    def __init__(self, images: Tensor, sampling: Sampling) -> None:
        self._sampling = sampling
        self._on_host = Fetched(images.float())
        self._drawn: dict[tuple[int, int], Tensor] = {}

    def of(self, values: Tensor) -> Tensor:
        """Return the drawn vectors (N * P, D) of a map (N, D, H, W), which share no memory with it."""
        N, D, H, W = values.shape
        P = self._sampling.positions
        vectors = values.flatten(2).transpose(1, 2)
        if P is None or P >= H * W:
            return vectors.clone(memory_format=torch.contiguous_format).view(-1, D)
        return vectors.gather(1, send(self._index(H, W), values.device)[:, :, None].expand(N, P, D)).view(-1, D)

    def _index(self, H: int, W: int) -> Tensor:
        if (H, W) not in self._drawn:
            sampling = self._sampling
            drawn = [
                np.random.default_rng((sampling.seed, key, H, W)).permutation(H * W)[: sampling.positions]
                for key in self._keys
            ]
            self._drawn[H, W] = torch.from_numpy(np.stack(drawn))
        return self._drawn[H, W]

    @functools.cached_property
    def _keys(self) -> list[int]:
        # Asked for in the pass, so that a GPU computes the first maps meanwhile.
        return [zlib.crc32(image.tobytes()) for image in self._on_host.values().numpy()]
