"""A layer's output, read as a map (N, D, H, W): channels first or last, tokens with a prefix, tuples.

No model is known by its name. timm's statements about a network come first (`feature_info`, `output_fmt`,
`num_prefix_tokens`, the patch embedding's `grid_size`), then the shapes of the layer's own weights.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn

from edgedistill_deploy.errors import EdgeDistillError

Output: TypeAlias = Tensor | tuple[Any, ...] | list[Any]
Grid: TypeAlias = tuple[int, int]

# Numbers of leading tokens to try where a network states none: a class token, and a distillation token.
UNSTATED_PREFIXES = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredFeature:
    """One entry of timm's `feature_info`: the end of a stage.

    Attributes:
        name: dotted module name; some networks declare wrong names.
        channels: D.
        reduction: side of a position in pixels of the network's input.
    """

    name: str
    channels: int
    reduction: int


def find_declared_features(model: nn.Module) -> tuple[DeclaredFeature, ...]:
    """Return the features that a network itself declares with `feature_info`, from shallow to deep, or none."""
    declared = getattr(model, "feature_info", None)
    infos = getattr(declared, "info", declared)  # a FeatureInfo in some models, a plain list in most
    if not isinstance(infos, Sequence):  # timm's inner blocks have a method of this name
        return ()
    return tuple(
        DeclaredFeature(name=info["module"], channels=info["num_chs"], reduction=info["reduction"]) for info in infos
    )


def as_map(output: Output, model: nn.Module, name: str) -> Tensor:
    """Read a layer's output as a map (N, D, H, W).

    Convolutional maps stay as they are; channels-last maps (Swin) are permuted; tokens (N, T, D) lose their prefix
    (class, distillation and register tokens) and are folded to the model's grid; pooled features (N, D) are a map of
    one position. Of a tuple, the first tensor with the channels that the model declares for this layer is read, else
    the first element.

    Raises:
        EdgeDistillError: the output is none of these; the message names the layer and the shape.
    """
    chosen = tensor_of(output, model, name)
    if isinstance(chosen, Tensor):
        if chosen.ndim == 4:
            return chosen.permute(0, 3, 1, 2) if _is_channels_last(chosen, model, name) else chosen
        if chosen.ndim == 3:
            return _fold_tokens(chosen, _grid_beside(output), model, name)
        if chosen.ndim == 2:
            return chosen[:, :, None, None]
    given = f"shape {tuple(chosen.shape)}" if isinstance(chosen, Tensor) else f"a {type(chosen).__name__}"
    raise EdgeDistillError(
        f"The output of layer {name!r} ({given}) cannot be read as a map; layers that return (N, D, H, W), (N, H, W, "
        "D) or tokens (N, T, D) can."
    )


def tensor_of(output: Any, model: nn.Module, name: str) -> Any:
    """Return the tensor that `as_map` reads; it is the one in the graph, and its map is not."""
    if not isinstance(output, (tuple, list)) or not output:
        return output
    channels = _find_declared_channels(model, name)
    tensors = (each for each in output if isinstance(each, Tensor) and each.ndim >= 2)
    return next((each for each in tensors if channels & {each.shape[1], each.shape[-1]}), output[0])


def with_tensor(output: Output, old: Tensor, new: Tensor) -> Output:
    """Return the output with one of its tensors replaced, for example by its gradient, to be read in the same way."""
    if isinstance(output, Tensor):
        return new
    items = [new if each is old else each for each in output]
    if isinstance(output, list):
        return items
    return type(output)(*items) if hasattr(output, "_fields") else tuple(items)  # networks ask named tuples by name


def copy_output(output: Output) -> Output:
    """Return a layer's output with its tensors copied, because networks write over outputs."""
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(copy_output(each) for each in output)
    return output


def _owners(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield a layer and the modules around it, up to the model, each with the layer's name relative to it."""
    chain: list[tuple[str, nn.Module]] = [(name, model)]
    while chain[-1][0]:
        step, _, rest = chain[-1][0].partition(".")
        module = chain[-1][1]._modules.get(step)
        if module is None:
            break
        chain.append((rest, module))
    yield from reversed(chain)


def _find_stated(model: nn.Module, name: str, attribute: str) -> Any:
    """Return an attribute of the innermost module around a layer that has it, or None."""
    values = (getattr(owner, attribute, None) for _, owner in _owners(model, name))
    return next((value for value in values if value is not None), None)


def _find_declared_channels(model: nn.Module, name: str) -> set[int]:
    """Return the widths that the networks around a layer declare for this very layer."""
    return {
        feature.channels
        for seen_as, owner in _owners(model, name)
        for feature in find_declared_features(owner)
        if feature.name == seen_as
    }


def _is_channels_last(values: Tensor, model: nn.Module, name: str) -> bool:
    _, layer = next(_owners(model, name))
    if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
        return False
    if isinstance(layer, nn.Linear):
        return True
    first, last = values.shape[1], values.shape[3]
    declared = _find_declared_channels(model, name)
    if (first in declared) != (last in declared):
        return last in declared
    for width, may_be_last in _widths(layer):
        if width == first != last:
            return False
        if width == last != first and may_be_last:
            return True
    return bool(_find_stated(model, name, "output_fmt") == "NHWC")


def _widths(layer: nn.Module) -> Iterator[tuple[int, bool]]:
    """Yield the widths of a layer's operations, the last one first, and whether they could write channels last."""
    for module in reversed(list(layer.modules())):
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            yield module.weight.shape[0] if isinstance(module, nn.Conv2d) else module.num_features, False
        elif isinstance(module, nn.Linear):
            yield module.out_features, True


def _grid_beside(output: Output) -> Grid | None:
    """Return the (H, W) that some networks return beside their tokens."""
    if isinstance(output, (tuple, list)) and len(output) > 1:
        beside = output[1]
        if isinstance(beside, (tuple, list)) and [type(each) for each in beside] == [int, int]:
            return beside[0], beside[1]
    return None


def _fold_tokens(tokens: Tensor, beside: Grid | None, model: nn.Module, name: str) -> Tensor:
    N, T, D = tokens.shape
    if (unrolled := _reroll(tokens, model, name)) is not None:
        return unrolled
    known = beside or _find_grid(model, name)
    prefixes = _prefixes(model, name)
    for grids in ([known] if known else [], _coarser(known), None):
        for dropped in prefixes:
            left = T - dropped
            side = math.isqrt(max(left, 0))
            for H, W in [(side, side)] if grids is None else grids:
                if H * W == left > 0:
                    return tokens[:, dropped:].transpose(1, 2).reshape(N, D, H, W)
    raise EdgeDistillError(
        f"The {T} tokens of layer {name!r}, {prefixes[0]} of them a prefix, do not fold to the grid "
        f"{known or 'of a square'}."
    )


def _find_grid(model: nn.Module, name: str) -> Grid | None:
    """Return the (H, W) of patches that the network around a layer states."""
    grid = getattr(_find_stated(model, name, "patch_embed"), "grid_size", None)
    return None if grid is None else (int(grid[0]), int(grid[1]))


def _prefixes(model: nn.Module, name: str) -> tuple[int, ...]:
    """Return the possible numbers of leading tokens that are no patches, the likeliest first."""
    stated = _find_stated(model, name, "num_prefix_tokens")
    if stated is not None:
        return (int(stated), 0)  # 0: before the network adds them
    return UNSTATED_PREFIXES if _find_stated(model, name, "class_token") is None else (1, 0)


def _coarser(grid: Grid | None) -> list[Grid]:
    """Return the grids that whole strides make of a grid (LeViT and other networks shrink their tokens)."""
    if grid is None:
        return []
    return [(-(-grid[0] // stride), -(-grid[1] // stride)) for stride in range(2, max(grid) + 1)]


def _reroll(tokens: Tensor, model: nn.Module, name: str) -> Tensor | None:
    """Undo the order of Hiera's tokens by its `reroll`, with {block: (windows, (H, W))}; None for other networks."""
    reroll = _find_stated(model, name, "reroll")
    for block, (_, grid) in getattr(reroll, "schedule", {}).items():
        if math.prod(grid) == tokens.shape[1]:
            ordered: Tensor = reroll(tokens, block)
            return ordered.permute(0, 3, 1, 2)
    return None
