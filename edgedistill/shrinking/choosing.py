"""Which channels of a teacher stay: by their relevance for the subtask, by Taylor's formula, by magnitude, at random.

Relevance is that of SubDistill: the diagonal of the matrix M of Chormai et al. 2026, whose leading directions are the
relevant subspace, added up over the layers that write a channel. So a channel is a direction of the teacher's layer
like any other, and the most relevant ones stay. Magnitude and Taylor's formula are torch-pruning's, over all weights of
a group (Fang et al. 2023, DepGraph).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.data.loader import open_loader
from edgedistill.data.sampling import sample_images
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import maps_and_contexts
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill.networks.modes import evaluating
from edgedistill.shrinking._groups import ChannelGroup, Channels, require_torch_pruning
from edgedistill.subspaces.evidence import evidence
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent

# Images that relevance and Taylor's formula look at; more change hardly a choice.
MOST_IMAGES = 512
_BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a choice may look at: the teacher, the subtask and its training images."""

    teacher: Teacher
    subtask: Subtask
    images: ImageSet
    seed: int = 0
    progress: Progress = silent

    def batches(self) -> Iterator[Tensor]:
        """Yield normalised training images (n, 3, H, W), at most `MOST_IMAGES`."""
        chosen = sample_images(self.images, MOST_IMAGES, self.seed)
        normalise, done = self.teacher.normalise(), 0
        for pixels, _, _ in open_loader(chosen, self.teacher.preprocess, _BATCH):
            yield normalise(pixels)
            done += len(pixels)
            self.progress(done, len(chosen))


def score_channels(channels: Channels, by: str, seen: Seen) -> list[Tensor]:
    """Return a number for each channel of each group: the more, the sooner it stays.

    `by` is one of `CHANNEL_CHOICES`.

    Raises:
        DataError: there are no images for relevance or Taylor's formula.
    """
    return _CHOICES[by](channels, seen)


def find_channel_relevance(
    model: nn.Module, class_indices: ClassIndices, batches: Iterable[Tensor], layers: Sequence[str]
) -> dict[str, Tensor]:
    """Return {layer: the diagonal of M (D,)}, float64, of all positions of all images.

    It is the diagonal of `subspaces.directions.relevance_matrix`. The whole matrices of all layers would not fit into
    memory: moments of D channels take 4 D^2 numbers, and here every layer of the network counts.

    Args:
        model: the teacher; takes normalised images and returns logits.
        class_indices: as for `find_subspaces`.
        batches: normalised images (n, 3, H, W).
        layers: whose outputs are read.

    Raises:
        DataError: there are no images.
    """
    sums: dict[str, Tensor] = {}
    count: dict[str, int] = {}
    for images in batches:
        maps = maps_and_contexts(
            model, layers, images, lambda outputs: evidence(restrict_logits(outputs, class_indices)).sum()
        )
        for name, pair in maps.items():
            a, c = (each.detach().double().transpose(0, 1).flatten(1) for each in pair)
            found = torch.stack([a.sum(1), c.sum(1), (a * a).sum(1), (c * c).sum(1), (a * c).sum(1)]).cpu()
            sums[name] = sums[name] + found if name in sums else found
            count[name] = count.get(name, 0) + a.shape[1]
    if not sums:
        raise DataError("There are no images to find relevant channels with; give at least one.")
    return {name: _diagonal(sums[name] / count[name]) for name in layers}


def _diagonal(means: Tensor) -> Tensor:
    """Return the diagonal of M from the means of a, c, a^2, c^2 and a c, each (D,)."""
    mean, context, square, context_square, product = means
    variance, cross = square - mean * mean, product - mean * context
    total, context_total = variance.sum(), context_square.sum()
    if not (total > 0 and context_total > 0):  # a layer that says nothing about the subtask
        return torch.zeros_like(mean)
    s = torch.sqrt(context_total / total)
    diagonal: Tensor = 2 * cross + 2 * s * variance + (2 / s) * context_square
    return diagonal


def _by_relevance(channels: Channels, seen: Seen) -> list[Tensor]:
    layers = sorted({name for group in channels.groups for name in group.sources})
    relevance = find_channel_relevance(channels.network, seen.subtask.class_indices, seen.batches(), layers)
    return [_gather(group, relevance) for group in channels.groups]


def _gather(group: ChannelGroup, values: dict[str, Tensor]) -> Tensor:
    """Add up the values of a group's layers, channel by channel."""
    total = torch.zeros(group.count, dtype=torch.float64)
    for name, places in group.sources.items():
        inside = places >= 0
        total.index_add_(0, places[inside], values[name][inside])
    return total


def _by_taylor(channels: Channels, seen: Seen) -> list[Tensor]:
    """Score by gradient times weight of the cross entropy with the teacher's own answers, which need no labels."""
    library, network = require_torch_pruning(), channels.network
    network.zero_grad()
    with evaluating(network), torch.enable_grad():
        for images in seen.batches():
            logits = restrict_logits(network(images), seen.subtask.class_indices)
            F.cross_entropy(logits, logits.argmax(dim=1), reduction="sum").backward()  # type: ignore[no-untyped-call]
    scores = _of_library(channels, library.importance.GroupTaylorImportance())
    network.zero_grad()
    return scores


def _by_magnitude(channels: Channels, seen: Seen) -> list[Tensor]:
    return _of_library(channels, require_torch_pruning().importance.GroupMagnitudeImportance(p=2))


def _of_library(channels: Channels, measure: Callable[..., Tensor | None]) -> list[Tensor]:
    found = ((group, measure(group.found)) for group in channels.groups)
    return [torch.zeros(group.count) if scores is None else scores for group, scores in found]


def _at_random(channels: Channels, seen: Seen) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seen.seed)
    return [torch.rand(group.count, generator=generator) for group in channels.groups]


_CHOICES: dict[str, Callable[[Channels, Seen], list[Tensor]]] = {
    "relevance": _by_relevance,
    "taylor": _by_taylor,
    "magnitude": _by_magnitude,
    "random": _at_random,
}
