"""Groups of channels that can only be removed together, found and removed by torch-pruning's dependency graph.

Only channels inside a network's blocks are removed, and those that the head alone reads. What blocks hand on to each
other keeps its width: it is narrow already in mobile networks, and all that follows depends on it.
"""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgedistill.models.libraries.messages import first_line
from edgedistill.networks.modes import evaluating
from edgedistill.shrinking.shape import count_kept
from edgedistill_deploy.errors import MissingDependencyError, UsageError

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_INSTEAD = "name a smaller student instead, such as --student timm:resnet18"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelGroup:
    """Channels of several layers that are one: what writes and what reads the same map.

    Attributes:
        found: torch-pruning's own group, which holds all channels.
        count: number of channels.
        blocks: a convolution in groups divides the channels into so many blocks, which stay equally large.
        sources: {layer: the group's channel of each of its outputs}, for the layers whose outputs are these channels;
            of those, only normalisations where there are any, since they come last.
    """

    found: Any
    count: int
    blocks: int
    sources: dict[str, Tensor]


def require_torch_pruning() -> Any:
    """Return the library torch-pruning. Raises MissingDependencyError where it is not installed."""
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingDependencyError("torch-pruning", "shrink", "A student teacher:SHARE") from error
    return torch_pruning


def find_groups(network: nn.Module, image_size: tuple[int, int], kept_layers: Sequence[nn.Module]) -> "Channels":
    """Find all groups of channels of a network for images (H, W), but for the outputs of `kept_layers`.

    Raises:
        UsageError: torch-pruning cannot follow this network.
        MissingDependencyError: torch-pruning is not installed.
    """
    library = require_torch_pruning()
    image = torch.zeros(1, 3, *image_size)
    with evaluating(network), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            graph = library.DependencyGraph().build_dependency(network, example_inputs=image, verbose=False)
            found = list(graph.get_all_groups(ignored_layers=list(kept_layers)))
        except Exception as error:  # whatever it raises for a network that it cannot follow
            raise unshrinkable(network, f"torch-pruning cannot follow it ({first_line(error)})") from error
    names = {module: name for name, module in network.named_modules()}
    inner = [each for each in found if _is_inner(graph, each, network, names, kept_layers)]
    groups = tuple(_describe(graph, each, names) for each in inner)
    if not groups:
        raise unshrinkable(network, "torch-pruning finds no channels inside its blocks that can be removed")
    return Channels(network=network, groups=groups)


def unshrinkable(network: nn.Module, why: str) -> UsageError:
    """Say that a network cannot be shrunk, and what to do."""
    return UsageError(f"A teacher of the kind {type(network).__name__} cannot be shrunk: {why}; {_INSTEAD}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """The channels of a network, in groups."""

    network: nn.Module
    groups: tuple[ChannelGroup, ...]

    def remove(self, share: float, scores: Sequence[Tensor], image_size: tuple[int, int]) -> None:
        """Keep the best `share` of the channels of each group; the network changes in place.

        Args:
            share: of the channels; the number is rounded, see `shape.count_kept`.
            scores: for each group one number a channel (n,); of equal numbers the first channel stays.
            image_size: (H, W); the network is tried on an image afterwards.

        Raises:
            UsageError: the network does not run without the channels.
        """
        kept = [_choose(group, share, each) for group, each in zip(self.groups, scores, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for group, channels in zip(self.groups, kept, strict=True):
                    removed = sorted(set(range(group.count)) - set(channels))
                    if removed:
                        group.found.prune(idxs=removed)
                with evaluating(self.network), torch.no_grad():
                    self.network(torch.zeros(1, 3, *image_size))
            except Exception as error:  # the network's own, where it holds a number of channels that nobody knows of
                raise unshrinkable(
                    self.network, f"it does not run with fewer channels ({first_line(error)})"
                ) from error


def _choose(group: ChannelGroup, share: float, scores: Tensor) -> list[int]:
    """Return the channels that stay, rising."""
    size = group.count // group.blocks
    kept = count_kept(group.count, share, group.blocks) // group.blocks
    together = scores.detach().double().cpu().view(group.blocks, size).sum(0)
    best = torch.sort(together, descending=True, stable=True).indices[:kept].tolist()
    return sorted(channel + block * size for block in range(group.blocks) for channel in best)


def _is_inner(
    graph: Any, found: Any, network: nn.Module, names: Mapping[nn.Module, str], heads: Sequence[nn.Module]
) -> bool:
    """Tell whether all layers of a group are in one block, or one layer writes it and the head alone reads it."""
    members, writers, readers = [], set(), set()
    for item in found.items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            return False
        if module not in names:  # an operation
            continue
        if graph.is_out_channel_pruning_fn(item.dep.handler):
            writers.add(module)
        else:
            readers.add(module)
        if module not in heads:
            members.append(names[module].split("."))
    block = network.get_submodule(".".join(_shared(members)))
    if hasattr(block, "num_heads"):  # attention, whose heads have a fixed number of channels
        return False
    if readers.isdisjoint(heads):
        return block is not network and not isinstance(block, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    return len([each for each in writers if not isinstance(each, _NORMS)]) == 1


def _shared(paths: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the names that all paths begin with."""
    for names in zip(*paths, strict=False):
        if len(set(names)) > 1:
            return
        yield names[0]


def _describe(graph: Any, found: Any, names: dict[nn.Module, str]) -> ChannelGroup:
    count, blocks = len(found[0].idxs), 1
    written: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}
    for item in found.items:
        module = item.dep.target.module
        if not isinstance(module, nn.Module) or module not in names:
            continue
        if isinstance(module, nn.Conv2d) and 1 < module.groups < module.out_channels:
            blocks = math.lcm(blocks, module.groups)
        if graph.is_out_channel_pruning_fn(item.dep.handler) and len(item.idxs) == len(item.root_idxs):
            places = torch.full((graph.get_out_channels(module),), -1)
            places[torch.tensor(item.idxs)] = torch.tensor(item.root_idxs)
            (norms if isinstance(module, _NORMS) else written)[names[module]] = places
    return ChannelGroup(found=found, count=count, blocks=blocks, sources=norms or written)
