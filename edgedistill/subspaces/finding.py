"""Relevant subspaces of a teacher's layers, for a subtask, found in one pass over the images."""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.config import SUBSPACE_METHODS, check_at_least, check_choice
from edgedistill.networks.layers import maps_and_contexts
from edgedistill.networks.logits import restrict_logits
from edgedistill.subspaces.evidence import evidence
from edgedistill.subspaces.moments import MomentAccumulator, Moments
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, UsageError
from edgedistill_deploy.files.writing import written_whole

FORMAT = "edgedistill-subspaces-1"
# Below this part of the activations' mean square, variance is what single precision's rounding leaves of a constant.
SMALLEST_VARIANCE = 1e-13
# The losses compute in single precision, which holds nothing much smaller.
SMALLEST_SQUARE = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Subspace:
    """Directions of a layer that matter to the subtask; all tensors float64 on the CPU.

    Attributes:
        layer: dotted name in the teacher.
        mean: mu (D,).
        basis: U (D, K), orthonormal columns by falling eigenvalue; K is at most D. The largest entry of every column is
            positive.
        eigenvalues: of the method's matrix, all of them, falling (D,). `random` and `identity` have no matrix: theirs are
            the variances along the directions, in the directions' order.
        variance: v_i = u_i^T A u_i along the basis columns (K,).
        sample_count: positions of images the moments were taken over.
        method: that found it; empty where that is not known.
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


def find_subspaces(
    model: nn.Module,
    class_indices: Sequence[int],
    batches: Iterable[Tensor],
    ranks: Mapping[str, int],
    *,
    map_sizes: Mapping[str, tuple[int, int]] | None = None,
    method: str = "prca",
    positions: int | None = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Subspace]:
    """Find the subspaces of several layers of a teacher (Chormai et al. 2026, sections 2 and 3).

    One forward pass and one backward pass per batch serve all layers. The backward pass stops at the shallowest layer and
    computes no parameter gradient. The model is left as it was found: mode, `requires_grad`, gradients, hooks.

    Contexts of pooled maps: a layer whose map is larger than `map_sizes` says is averaged down to that size, as the loss will do,
    and its moments are those of the averages p. The context of p is then the derivative of the evidence when all positions
    of p's cell move together, so that their average moves as much: the *sum* of the gradients in the cell. (A mean would
    differ by the size of the cell, which the factor s in the matrix M cancels; the sum keeps a plain meaning, and pooling
    to a single position gives the gradient with respect to a shift of the whole channel.)

    Positions are drawn without replacement for each image, by a generator seeded with `seed`, the map's size and the
    image's own pixels: neither the order of images nor the batch size changes the result beyond rounding.

    Args:
        model: the teacher; takes normalised images and returns logits (N, classes).
        class_indices: the subtask's columns of those logits.
        batches: normalised float images (n, 3, H, W) on the model's device.
        ranks: {layer: K}. A K above the layer's width D means all D directions.
        map_sizes: {layer: (H, W)} of the student's map that the layer is compared with; layers not named keep their map.
        method: `prca` | `prca_indefinite` | `pca` | `gradient` | `random` | `identity`.
        positions: drawn from each image's map; None uses all.
        seed: fixes the positions, and the directions of `random`.
        progress: called after every batch with the number of images so far.

    Raises:
        UsageError: an unknown layer or method, a rank or number of positions below 1, class indices outside the outputs.
        DataError: there were no images.
        EdgeDistillError: a layer without variance in its subspace, or whose moments are not finite; it is named.
    """
    _check_request(ranks, method)
    if not ranks:
        return {}
    moments = gather_moments(
        model,
        class_indices,
        batches,
        tuple(ranks),
        map_sizes=map_sizes,
        positions=positions,
        seed=seed,
        progress=progress,
    )
    return {
        name: subspace_from(moments[name], rank, layer=name, method=method, seed=seed)
        for name, rank in ranks.items()
    }


def gather_moments(
    model: nn.Module,
    class_indices: Sequence[int],
    batches: Iterable[Tensor],
    layers: Sequence[str],
    *,
    map_sizes: Mapping[str, tuple[int, int]] | None = None,
    positions: int | None = 20,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Moments]:
    """Gather the moments of several layers in one pass; `subspace_from` makes any method's subspace of them.

    Arguments, pooling and drawn positions are those of `find_subspaces`. Where several processes train together, each gives
    its share of the images and all return the moments of the whole.

    Raises:
        UsageError: an unknown layer, a number of positions below 1, class indices outside the outputs.
        DataError: there were no images.
    """
    check_at_least("seed", seed, 0)
    if positions is not None and positions < 1:
        raise UsageError(f"positions must be at least 1, or None for all, and {positions} was given.")
    sizes = map_sizes or {}
    accumulators: dict[str, MomentAccumulator] = {}
    count = 0
    for images in batches:
        maps = maps_and_contexts(
            model,
            layers,
            images,
            lambda outputs: evidence(restrict_logits(outputs, class_indices)).sum(),
        )
        keys = [zlib.crc32(image.tobytes()) for image in images.detach().float().cpu().numpy()]
        for name, (activation, context) in maps.items():
            pooled = _pool(activation, context, sizes.get(name))
            accumulator = accumulators.setdefault(name, _accumulator_for(activation))
            accumulator.update(*_sample(pooled, keys, positions, seed))
        count += len(images)
        if progress is not None:
            progress(count)
    if not count:
        raise DataError("There are no images to find subspaces with; give at least one batch.")
    for name in layers:
        accumulators[name].merge_processes()
    return {name: accumulators[name].moments() for name in layers}


def _check_request(ranks: Mapping[str, int], method: str) -> None:
    check_choice("method", method, SUBSPACE_METHODS)
    for name, rank in ranks.items():
        if rank < 1:
            raise UsageError(f"The rank of layer {name!r} must be at least 1, and {rank} was given.")


def _accumulator_for(activation: Tensor) -> MomentAccumulator:
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if activation.device.type == "mps" else activation.device
    return MomentAccumulator(activation.shape[1], device)


def _pool(activation: Tensor, context: Tensor, size: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
    """Average a map down to at most `size`, and sum its context over the same cells."""
    H, W = activation.shape[2:]
    if size is None:
        return activation, context
    h, w = min(H, size[0]), min(W, size[1])
    if (h, w) == (H, W):
        return activation, context
    cells = torch.outer(_cell_lengths(H, h), _cell_lengths(W, w)).to(context)
    return F.adaptive_avg_pool2d(activation, (h, w)), F.adaptive_avg_pool2d(context, (h, w)) * cells


def _cell_lengths(length: int, count: int) -> Tensor:
    """Return how many positions each cell of adaptive pooling covers along one axis; neighbours may overlap."""
    start = torch.arange(count) * length // count
    end = -((torch.arange(1, count + 1) * -length) // count)
    return end - start


def _sample(
    maps: tuple[Tensor, Tensor], keys: Sequence[int], positions: int | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Draw the same positions of two maps (N, D, H, W), for each image its own; return two sets of vectors (N * P, D)."""
    N, D, H, W = maps[0].shape
    first, second = (each.flatten(2).transpose(1, 2) for each in maps)
    if positions is not None and positions < H * W:
        drawn = [np.random.default_rng((seed, key, H, W)).permutation(H * W)[:positions] for key in keys]
        index = torch.from_numpy(np.stack(drawn)).to(first.device)[:, :, None].expand(N, positions, D)
        first, second = first.gather(1, index), second.gather(1, index)
    return first.reshape(-1, D), second.reshape(-1, D)


def subspace_from(
    moments: Moments, rank: int, *, layer: str, method: str = "prca", seed: int = 0
) -> Subspace:
    """Turn a layer's moments into its subspace of rank min(K, D).

    Raises:
        UsageError: an unknown method, or a rank below 1.
        EdgeDistillError: the moments are not finite, the context is 0 where the method needs it, or there is no variance
            inside the subspace; the layer is named.
    """
    _check_request({layer: rank}, method)
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
            f"The layer {layer!r} has no variance inside its subspace of rank {len(variance)}: its outputs there are constant"
            " over the images, or as good as 0. Pair another layer, or give more and more varied images."
        )


def _check_finite(moments: Moments, layer: str) -> None:
    parts = (moments.mean, moments.activation_covariance, moments.context_moment, moments.cross_moment)
    if not all(bool(part.isfinite().all()) for part in parts):
        raise EdgeDistillError(
            f"The activations or gradients of layer {layer!r} are not all finite numbers, so it has no subspace; check the"
            " teacher's weights and its input normalisation."
        )


def relevance_matrix(moments: Moments, layer: str) -> Tensor:
    """Return M = X + X^T + 2 s A + (2 / s) G with s = sqrt(tr G / tr A) (Chormai et al. 2026).

    M = E[(sqrt(s) a' + c / sqrt(s))(...)^T] + s A + G / s, so it is positive semi-definite.
    """
    A, G = moments.activation_covariance, moments.context_moment
    cross = _cross(moments, layer)
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
            f"The context is 0 at layer {layer!r}, at every position drawn from every image: the logits do not depend on its map"
            " (as after the last attention of a transformer, where only the class token counts), or at few positions alone."
            " Pair another layer, draw more positions, or use method pca."
        )


def _random_directions(width: int, seed: int) -> Tensor:
    draws = torch.from_numpy(np.random.default_rng(seed).standard_normal((width, width)))
    directions: Tensor = torch.linalg.qr(draws).Q
    return directions


def _variance_along(directions: Tensor, covariance: Tensor) -> Tensor:
    return (directions * (covariance @ directions)).sum(0)


def _with_fixed_signs(basis: Tensor) -> Tensor:
    """Make the largest entry of every column positive: an eigenvector's sign is free, a reproducible file's is not."""
    largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
    return (basis * torch.where(largest < 0, -1.0, 1.0)).contiguous()


_FIELDS = ("mean", "basis", "eigenvalues", "variance")


def save_subspaces(path: Path, subspaces: Mapping[str, Subspace]) -> None:
    """Write subspaces to a safetensors file, whole or not at all; tensors are named `LAYER/FIELD`."""
    tensors: dict[str, Tensor] = {}
    for name, subspace in subspaces.items():
        tensors |= {f"{name}/{field}": getattr(subspace, field) for field in _FIELDS}
        tensors[f"{name}/sample_count"] = torch.tensor(subspace.sample_count)
    methods = json.dumps({name: subspace.method for name, subspace in subspaces.items()})
    with written_whole(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, "methods": methods})


def load_subspaces(path: Path) -> dict[str, Subspace]:
    """Read the file that `save_subspaces` writes.

    Raises:
        BundleError: the file is missing, damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise BundleError(f"{path} does not hold subspaces of the format {FORMAT}; find them again.")
            names = dict.fromkeys(key.rpartition("/")[0] for key in stream.keys())  # noqa: SIM118  # not a mapping
            methods = json.loads(metadata.get("methods", "{}"))
            return {name: _read_subspace(stream.get_tensor, name, methods.get(name, "")) for name in names}
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(f"The subspaces in {path} cannot be read ({error}); find them again.") from error


def _read_subspace(read: Callable[[str], Tensor], layer: str, method: str) -> Subspace:
    return Subspace(
        layer=layer,
        mean=read(f"{layer}/mean"),
        basis=read(f"{layer}/basis"),
        eigenvalues=read(f"{layer}/eigenvalues"),
        variance=read(f"{layer}/variance"),
        sample_count=int(read(f"{layer}/sample_count")),
        method=method,
    )
