"""Layers of a network: found by name, tapped without a trace, read as maps, and paired between teacher and student."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from edgedistill.modes import evaluating
from edgedistill_deploy.errors import EdgeDistillError, UsageError, nearest_names

Output: TypeAlias = Tensor | tuple[Any, ...] | list[Any]
Shape: TypeAlias = tuple[int, int, int]

PAIR_COUNT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerPair:
    """A layer of the teacher and the layer of the student that learns from it, as dotted module names."""

    teacher: str
    student: str


def resolve_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the submodule with this dotted name.

    Raises:
        UsageError: there is none; the message lists the nearest names.
    """
    modules: dict[str, nn.Module] = {each: module for each, module in model.named_modules() if each}
    if name not in modules:
        raise UsageError(f"{type(model).__name__} has no layer {name!r}.{nearest_names(name, modules)}")
    return modules[name]


@contextlib.contextmanager
def capture(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Output]]:
    """Yield a dictionary that every forward pass of `model` fills with the outputs of the named layers.

    A captured output is what the layer returned, still part of the graph. The rest of the network gets a copy, because
    many networks write over a layer's output (`ReLU(inplace=True)`, `x += shortcut`), which would change value and
    gradient of what was captured. The hooks are removed when the block ends, however it ends; blocks may be nested.

    Raises:
        UsageError: a name is unknown.
        EdgeDistillError: in the forward pass, when a named layer runs twice or not at all.
    """
    outputs: dict[str, Output] = {}
    layers = {name: resolve_layer(model, name) for name in names}
    with contextlib.ExitStack() as hooks:
        hooks.callback(model.register_forward_pre_hook(lambda *_: outputs.clear()).remove)
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(_Tap(name, outputs)).remove)
        hooks.callback(model.register_forward_hook(lambda *_: _check_all_ran(names, outputs)).remove)
        yield outputs


@dataclass(frozen=True, slots=True)
class _Tap:
    """A forward hook that stores a layer's output and passes a copy on."""

    name: str
    outputs: dict[str, Output]

    def __call__(self, module: nn.Module, inputs: object, output: Output) -> Output:
        if self.name in self.outputs:
            raise EdgeDistillError(
                f"The layer {self.name!r} runs more than once in a forward pass, so it has no single output; choose a"
                " layer that contains it."
            )
        self.outputs[self.name] = output
        copy: Output = _copied(output)
        return copy


def _copied(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.clone()
    if type(output) in (tuple, list):
        return type(output)(_copied(each) for each in output)
    return output


def _check_all_ran(names: Sequence[str], outputs: Mapping[str, Output]) -> None:
    missing = [name for name in names if name not in outputs]
    if missing:
        raise EdgeDistillError(
            f"The layer {missing[0]!r} did not run in the forward pass, so it has no output; choose a layer that does."
        )


def as_map(output: Output, model: nn.Module, name: str) -> Tensor:
    """Read a layer's output as a map (N, D, H, W).

    Convolutional maps stay as they are; channels-last maps (Swin) are permuted; tokens (N, T, D) lose their prefix (class
    and register tokens) and are folded to the model's grid; pooled features (N, D) are a map of one position. Of a tuple
    the first element counts.

    Raises:
        EdgeDistillError: the output is none of these; the message names the layer and the shape.
    """
    first = _tensor_of(output)
    if isinstance(first, Tensor):
        if first.ndim == 4:
            return first.permute(0, 3, 1, 2) if _is_channels_last(model, name) else first
        if first.ndim == 3:
            return _fold_tokens(first, model, name)
        if first.ndim == 2:
            return first[:, :, None, None]
    given = f"shape {tuple(first.shape)}" if isinstance(first, Tensor) else f"a {type(first).__name__}"
    raise EdgeDistillError(
        f"The output of layer {name!r} ({given}) cannot be read as a map; layers that return (N, D, H, W), (N, H, W, D) or"
        " tokens (N, T, D) can."
    )


def _is_channels_last(model: nn.Module, name: str) -> bool:
    # timm states the format of a model's blocks; single operations inside them have the format of their kind.
    layer = resolve_layer(model, name)
    if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d)):
        return False
    return isinstance(layer, nn.Linear) or getattr(model, "output_fmt", "NCHW") == "NHWC"


def _fold_tokens(tokens: Tensor, model: nn.Module, name: str) -> Tensor:
    N, T, D = tokens.shape
    prefix = int(getattr(model, "num_prefix_tokens", 1 if hasattr(model, "class_token") else 0))
    known = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    for dropped in (prefix, 0):
        side = math.isqrt(max(T - dropped, 0))
        for H, W in (known or (side, side), (side, side)):
            if H * W == T - dropped > 0:
                return tokens[:, dropped:].transpose(1, 2).reshape(N, D, H, W)
    raise EdgeDistillError(
        f"The {T} tokens of layer {name!r}, {prefix} of them a prefix, do not fold to the grid {known or 'of a square'}."
    )


def map_shapes(model: nn.Module, names: Sequence[str], image_size: tuple[int, int]) -> dict[str, Shape]:
    """Return {name: (D, H, W)} of layers read as maps, found by a forward pass of one grey image (H, W)."""
    with capture(model, names) as outputs:
        _trace(model, image_size)
    shapes: dict[str, Shape] = {}
    for name in names:
        _, D, H, W = as_map(outputs[name], model, name).shape
        shapes[name] = (D, H, W)
    return shapes


def _trace(model: nn.Module, image_size: tuple[int, int]) -> None:
    parameter = next(model.parameters())
    with evaluating(model), torch.no_grad():
        model(torch.zeros(1, 3, *image_size, device=parameter.device, dtype=parameter.dtype))


def maps_and_contexts(
    model: nn.Module, names: Sequence[str], images: Tensor, scalar: Callable[[Any], Tensor]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {layer: (map, gradient of a scalar with respect to it)}, both (N, D, H, W) and detached.

    One forward and one backward pass serve all layers. The backward pass stops at the shallowest one; gradients, modes and
    `requires_grad` of the model stay as they were. A map the scalar does not depend on has a gradient of 0.

    Args:
        model: runs in evaluation mode.
        names: layers.
        images: normalised (N, 3, H, W).
        scalar: turns what the model returns into a scalar tensor.
    """
    with _frozen(model), evaluating(model), torch.enable_grad(), capture(model, names) as outputs:
        # With all parameters frozen, it is the input that makes the graph.
        total = scalar(model(images.detach().clone().requires_grad_(True)))
        maps = [as_map(outputs[name], model, name) for name in names]
        tensors = [_tensor_of(outputs[name]) for name in names]
        gradients = torch.autograd.grad(total, tensors, allow_unused=True, materialize_grads=True)
    contexts = (as_map(each, model, name) for each, name in zip(gradients, names, strict=True))
    return {name: (each.detach(), context) for name, each, context in zip(names, maps, contexts, strict=True)}


def _tensor_of(output: Any) -> Any:
    """Return the tensor that `as_map` reads: the graph runs through it, not through its map."""
    return output[0] if isinstance(output, (tuple, list)) and output else output


@contextlib.contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Let no parameter ask for a gradient inside the block."""
    asked = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in asked.items():
            parameter.requires_grad_(requires_grad)


def pair_layers(teacher: nn.Module, student: nn.Module, image_size: tuple[int, int]) -> tuple[LayerPair, ...]:
    """Pair up to four layers of teacher and student, from shallow to deep.

    Candidates are the ends of the stages that timm declares (`feature_info`), else the last layer at each map size. Where
    both networks shrink their maps, the deepest four of the teacher are matched in order to student layers whose map
    sizes agree best; a network of constant map size (a vision transformer) offers evenly spaced depths instead. A map that
    the logits do not depend on is no candidate: after the last attention of a vision transformer only the class token
    counts, so its last block's patches have no context and teach nothing.

    Args:
        teacher: a classifier of normalised images (N, 3, H, W).
        student: likewise; its layers may be wider than the teacher's.
        image_size: (H, W) of those images.

    Raises:
        EdgeDistillError: a network has no layer that can be read as a map.
    """
    teacher_levels, student_levels = _levels(teacher, image_size), _levels(student, image_size)
    count = min(PAIR_COUNT, len(teacher_levels), len(student_levels))
    if _is_flat(teacher_levels) or _is_flat(student_levels):
        chosen = zip(_spread(teacher_levels, count), _spread(student_levels, count), strict=True)
    else:
        deepest = list(teacher_levels.items())[-count:]
        options = itertools.combinations(student_levels.items(), count)
        # Later combinations are deeper, and max keeps the first of equals, so walk them backwards.
        best = max(reversed(list(options)), key=lambda option: -_size_disagreement(deepest, option))
        chosen = zip(deepest, best, strict=True)
    return tuple(LayerPair(teacher=left, student=right) for (left, _), (right, _) in chosen)


def _levels(model: nn.Module, image_size: tuple[int, int]) -> dict[str, Shape]:
    """Return the candidate layers of a network with their map shapes, from shallow to deep."""
    declared = getattr(model, "feature_info", None)
    infos = getattr(declared, "info", declared)  # a FeatureInfo in some models, a plain list in most
    names = [info["module"] for info in infos] if infos else _last_at_each_size(model, image_size)
    if not names:
        raise EdgeDistillError(
            f"{type(model).__name__} has no layer whose output is a map, so its layers cannot be paired automatically; name"
            " the pairs."
        )
    shapes = map_shapes(model, names, image_size)
    contexts = maps_and_contexts(model, names, _noise(model, image_size), _weighted_sum)
    heard = [name for name in names if bool(contexts[name][1].any())]
    return {name: shapes[name] for name in heard or names}


def _noise(model: nn.Module, image_size: tuple[int, int]) -> Tensor:
    """Return two images of noise, always the same; on grey ones many a ReLU would pass nothing."""
    draws = torch.randn(2, 3, *image_size, generator=torch.Generator().manual_seed(0))
    return draws.to(next(model.parameters()))


def _weighted_sum(logits: Tensor) -> Tensor:
    # Uneven weights: the plain sum of logits may be constant by construction.
    return (logits * torch.arange(1, logits.shape[-1] + 1).to(logits)).sum()


def _last_at_each_size(model: nn.Module, image_size: tuple[int, int]) -> list[str]:
    """Find, for each map size of a plain convolutional network, the layer that is the last to return it."""
    last: dict[tuple[int, int], str] = {}

    def note(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            size = (output.shape[2], output.shape[3])
            last.pop(size, None)
            last[size] = name

    with contextlib.ExitStack() as hooks:
        for name, module in model.named_modules():
            if name:
                hook = module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
                hooks.callback(hook.remove)
        _trace(model, image_size)
    return list(last.values())


def _is_flat(levels: Mapping[str, Shape]) -> bool:
    return len({shape[1:] for shape in levels.values()}) == 1 < len(levels)


def _spread(levels: Mapping[str, Shape], count: int) -> list[tuple[str, Shape]]:
    """Choose `count` levels: evenly spaced ones that end with the last where map sizes are equal, else the deepest."""
    items = list(levels.items())
    if not _is_flat(levels):
        return items[-count:]
    return [items[len(items) * (step + 1) // count - 1] for step in range(count)]


def _size_disagreement(left: Sequence[tuple[str, Shape]], right: Sequence[tuple[str, Shape]]) -> float:
    """Sum over pairs of how many halvings their map sizes are apart."""
    pairs = zip(left, right, strict=True)
    return sum(abs(math.log2(a[1] * a[2] / (b[1] * b[2]))) / 2 for (_, a), (_, b) in pairs)
