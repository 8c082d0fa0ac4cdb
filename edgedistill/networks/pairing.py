"""Pairs of a teacher's layer and the student's layer that learns from it."""

import contextlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.networks.layers import LayerPair, Shape, maps_and_contexts, shape_of, trace_once
from edgedistill.networks.maps import DeclaredFeature, find_declared_features, tensor_of
from edgedistill_deploy.errors import EdgeDistillError

PAIR_COUNT = 4


def pair_layers(teacher: nn.Module, student: nn.Module, image_size: tuple[int, int]) -> tuple[LayerPair, ...]:
    """Pair up to four layers of teacher and student, from shallow to deep.

    Candidates are the ends of the stages that timm declares (`feature_info`, also that of a hybrid's convolutional
    stem), else the last layer at each map size. A map that the logits do not depend on is no candidate: after the last
    attention of a vision transformer only the class token counts, so the patches of its last block teach nothing.

    Where both networks shrink their maps, the teacher's deepest four map sizes are matched in order to the student
    layers with the nearest sizes. Of several layers with one map size (the blocks of a transformer) evenly spaced ones
    are taken, the last included. Where all maps of a network have one size, layers are paired by depth.

    Args:
        teacher: a classifier of normalised images (N, 3, H, W).
        student: another such classifier; its layers may be wider than the teacher's.
        image_size: (H, W) of those images.

    Raises:
        EdgeDistillError: a network has no layer that can be read as a map.
    """
    taught, learned = _levels(teacher, image_size), _levels(student, image_size)
    count = min(PAIR_COUNT, len(taught), len(learned))
    pairs = _even(taught, learned, count) if _is_flat(taught) or _is_flat(learned) else _by_size(taught, learned, count)
    return tuple(LayerPair(teacher=left.name, student=right.name) for left, right in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """A layer that may be paired: its position among the candidates, from the shallowest, and its map's (H, W)."""

    name: str
    depth: int
    size: tuple[int, int]


def _levels(model: nn.Module, image_size: tuple[int, int]) -> list[_Level]:
    """Return the candidate layers of a network, from shallow to deep."""
    traced = _trace_all(model, image_size)
    names = _find_declared_names(model, traced, image_size) or _find_undeclared_names(model, traced)
    if not names:
        raise EdgeDistillError(
            f"{type(model).__name__} has no layer whose output is a map, so its layers cannot be paired automatically; "
            "name the pairs."
        )
    contexts = maps_and_contexts(model, names, _noise(model, image_size), _sum_weighted)
    heard = [name for name in names if bool(contexts[name][1].any())] or names
    return [_Level(name=name, depth=depth, size=traced[name].shape[1:]) for depth, name in enumerate(heard)]


def _noise(model: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """Return two images of noise, always the same; on grey images many ReLUs would return only 0."""
    draws = torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(0))
    return draws.to(next(model.parameters()))


def _sum_weighted(logits: Tensor) -> Tensor:
    # Uneven weights: the plain sum of logits is constant in some networks.
    return (logits * torch.arange(1, logits.shape[-1] + 1).to(logits)).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Traced:
    """The map that a layer returned for one image; `tokens` tells whether it was folded from tokens."""

    shape: Shape
    tokens: bool


def _trace_all(model: nn.Module, image_size: tuple[int, int]) -> dict[str, _Traced]:
    """Return all layers that run exactly once and return a map or tokens, in the order in which they finish."""
    traced: dict[str, _Traced | None] = {}

    def note(name: str, output: Any) -> None:
        found = None
        values = tensor_of(output, model, name)
        if name not in traced and isinstance(values, Tensor) and values.ndim in (3, 4):
            with contextlib.suppress(EdgeDistillError):
                found = _Traced(shape=shape_of(output, model, name, image_size), tokens=values.ndim == 3)
        traced[name] = found

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hook = module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
                hooks.enter_context(hook)
        trace_once(model, image_size)
    return {name: each for name, each in traced.items() if each is not None}


def _find_declared_names(model: nn.Module, traced: Mapping[str, _Traced], image_size: tuple[int, int]) -> list[str]:
    """Return the layers that a network and the networks inside it declare, checked against their outputs."""
    declared = [
        replace(feature, name=f"{inside}.{feature.name}" if inside else feature.name)
        for inside, module in model.named_modules()
        for feature in find_declared_features(module)
    ]
    found: set[str] = set()
    for feature in declared:
        # Where a module is declared twice (CrossViT's two branches), the first declaration says what it returns.
        if feature.name not in found:
            found.update(_layers_of(feature, model, traced, image_size))
    return [name for name in traced if name in found]


def _layers_of(
    feature: DeclaredFeature, model: nn.Module, traced: Mapping[str, _Traced], image_size: tuple[int, int]
) -> list[str]:
    """Return the layer that a declaration means, or nothing.

    Some of timm's declarations name a module that does not exist (Twins, MViT), a container that never runs (CoaT) or a
    module that returns something else (HRNet). Then the last layer with the declared width and size is returned: one
    inside the declared module if there is one, and a block rather than the single operation that may follow it.
    """
    if feature.name in traced and traced[feature.name].shape[0] == feature.channels:
        return [feature.name]
    fitting = [name for name, each in traced.items() if _fits(feature, each.shape, image_size)]
    inside = [name for name in fitting if name.startswith(f"{feature.name}.")] or fitting
    blocks = [name for name in inside if any(model.get_submodule(name).children())]
    return (blocks or inside)[-1:]


def _fits(feature: DeclaredFeature, shape: Shape, image_size: tuple[int, int]) -> bool:
    sides = zip(shape[1:], image_size, strict=True)
    return shape[0] == feature.channels and all(abs(cells - side / feature.reduction) < 1 for cells, side in sides)


def _find_undeclared_names(model: nn.Module, traced: Mapping[str, _Traced]) -> list[str]:
    """Return the last layer at each map size, or the longest stack of token blocks, where nothing is declared."""
    modules = dict(model.named_modules())
    maps = {
        name: each.shape[1:]
        for name, each in traced.items()
        if not each.tokens and not isinstance(modules[name], nn.AdaptiveAvgPool2d)
    }
    last = {size: name for name, size in maps.items()}
    stacks: dict[tuple[str, Shape], list[str]] = {}
    for name, each in traced.items():
        if each.tokens:
            stacks.setdefault((name.rpartition(".")[0], each.shape), []).append(name)
    longest = max(stacks.values(), key=len, default=[])
    return longest if len(longest) > len(last) else [name for name in maps if name in last.values()]


def _is_flat(levels: Sequence[_Level]) -> bool:
    return len({level.size for level in levels}) == 1 < len(levels)


def _even(taught: Sequence[_Level], learned: Sequence[_Level], count: int) -> Iterator[tuple[_Level, _Level]]:
    """Pair the deepest layers of both, evenly spaced where map sizes are equal."""
    left, right = (max(_selections(_runs(levels), count), key=_depth) for levels in (taught, learned))
    return zip(left, right, strict=True)


def _by_size(taught: Sequence[_Level], learned: Sequence[_Level], count: int) -> Iterator[tuple[_Level, _Level]]:
    """Pair the teacher's deepest map sizes with the student layers of nearest sizes; of equals with the deepest."""
    options = itertools.product(_selections(_runs(taught)[-count:], count, least=1), _selections(_runs(learned), count))
    left, right = min(options, key=lambda both: (_size_disagreement(*both), -_depth(both[0]) - _depth(both[1])))
    return zip(left, right, strict=True)


def _runs(levels: Sequence[_Level]) -> list[list[_Level]]:
    """Group neighbours of equal map size: the stages of a network."""
    return [list(run) for _, run in itertools.groupby(levels, key=lambda level: level.size)]


def _selections(runs: Sequence[Sequence[_Level]], count: int, least: int = 0) -> Iterator[tuple[_Level, ...]]:
    """Yield the ways to choose `count` levels, at least `least` of each run, evenly spaced with the last included."""
    if not runs:
        if count == 0:
            yield ()
        return
    run, *deeper = runs
    for taken in range(least, min(len(run), count) + 1):
        chosen = tuple(run[len(run) * (step + 1) // taken - 1] for step in range(taken))
        for rest in _selections(deeper, count - taken, least):
            yield (*chosen, *rest)


def _depth(chosen: Sequence[_Level]) -> int:
    return sum(level.depth for level in chosen)


def _size_disagreement(left: Sequence[_Level], right: Sequence[_Level]) -> float:
    """Return the sum over pairs of the number of halvings between their map sizes."""
    pairs = zip(left, right, strict=True)
    return round(sum(abs(math.log2(math.prod(a.size) / math.prod(b.size))) / 2 for a, b in pairs), 6)
