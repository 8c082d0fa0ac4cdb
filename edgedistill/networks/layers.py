"""Layers of a network: found by name, and their outputs captured; the network does not change."""

import contextlib
import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from edgedistill.networks.maps import Output, as_map, copy_output, tensor_of, with_tensor
from edgedistill.networks.modes import evaluating, frozen
from edgedistill_deploy.errors import EdgeDistillError, UsageError, nearest_names

__all__ = ["LayerPair", "as_map", "capture", "map_shapes", "maps_and_contexts", "resolve_layer"]

Shape: TypeAlias = tuple[int, int, int]


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

    A captured output is still part of the graph. The rest of the network gets a copy, because many networks write over
    a layer's output (`ReLU(inplace=True)`, `x += shortcut`), which would change the captured value and its gradient.
    The hooks are always removed at the end of the block; blocks may be nested.

    Raises:
        UsageError: a name is unknown.
        EdgeDistillError: in the forward pass, when a named layer runs twice or not at all.
    """
    outputs: dict[str, Output] = {}
    layers = {name: resolve_layer(model, name) for name in names}
    with contextlib.ExitStack() as hooks:
        hooks.enter_context(model.register_forward_pre_hook(lambda *_: outputs.clear()))
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(_Tap(name, outputs)))
        hooks.enter_context(model.register_forward_hook(lambda *_: _check_all_ran(names, outputs)))
        yield outputs


@dataclass(frozen=True, slots=True)
class _Tap:
    """A forward hook that stores a layer's output and gives the network a copy."""

    name: str
    outputs: dict[str, Output]

    def __call__(self, module: nn.Module, inputs: object, output: Output) -> Output:
        if self.name in self.outputs:
            raise _ran_twice(self.name)
        self.outputs[self.name] = output
        return copy_output(output)


def _ran_twice(name: str) -> EdgeDistillError:
    return EdgeDistillError(
        f"The layer {name!r} runs more than once in a forward pass, so it has no single output; choose a layer that "
        "contains it."
    )


def _check_all_ran(names: Sequence[str], ran: Collection[str]) -> None:
    missing = [name for name in names if name not in ran]
    if missing:
        raise EdgeDistillError(
            f"The layer {missing[0]!r} did not run in the forward pass, so it has no output; choose a layer that does."
        )


def map_shapes(model: nn.Module, names: Sequence[str], image_size: tuple[int, int]) -> dict[str, Shape]:
    """Return {name: (D, H, W)} of layers read as maps, from a forward pass of one image of zeros (H, W).

    Raises:
        UsageError: a name is unknown.
        EdgeDistillError: a layer does not run exactly once, or its output cannot be read as a map.
    """
    with capture(model, names) as outputs:
        trace_once(model, image_size)
    return {name: shape_of(outputs[name], model, name, image_size) for name in names}


def shape_of(output: Output, model: nn.Module, name: str, image_size: tuple[int, int]) -> Shape:
    """Return (D, H, W) of the map that a layer returns for one image."""
    values = tensor_of(output, model, name)
    N, D, H, W = as_map(output, model, name).shape
    _check_batch(N, 1, name)
    if values.ndim == 3 and not _has_aspect(image_size, H, W):
        raise EdgeDistillError(
            f"The tokens of layer {name!r} were folded to {H} x {W}, which images of {image_size[0]} x {image_size[1]} "
            "pixels do not give: the model does not state the grid of images of this size. Use square images or other "
            "layers."
        )
    return D, H, W


def _check_batch(found: int, images: int, name: str) -> None:
    if found != images:
        raise EdgeDistillError(
            f"The layer {name!r} returns {found} maps for {images} images (as inside attention over windows), so they "
            "are not the images' own; choose a layer around it."
        )


def _has_aspect(image_size: tuple[int, int], H: int, W: int) -> bool:
    """Tell whether square patches of images of this size can make a grid (H, W), rounded up or down."""
    patch = math.sqrt(math.prod(image_size) / (H * W))
    return all(abs(cells - side / patch) < 1 for cells, side in zip((H, W), image_size, strict=True))


def trace_once(model: nn.Module, image_size: tuple[int, int]) -> None:
    """Run the model once, in evaluation mode, on an image of zeros."""
    parameter = next(model.parameters())
    with evaluating(model), torch.no_grad():
        model(torch.zeros(1, 3, *image_size, device=parameter.device, dtype=parameter.dtype))


Keep: TypeAlias = Callable[[str, Tensor], Tensor]


def maps_and_contexts(
    model: nn.Module,
    names: Sequence[str],
    images: Tensor,
    scalar: Callable[[Any], Tensor],
    *,
    keep_map: Keep = lambda name, values: values.clone(),
    keep_context: Keep = lambda name, values: values,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return {layer: (map, gradient of a scalar with respect to it)}, both (N, D, H, W) and detached.

    One forward and one backward pass serve all layers. The graph begins at the shallowest one, so nothing is held for
    the layers before it, and no layer's map is held for its gradient. Gradients, modes and `requires_grad` of the model
    stay as they were. A map that the scalar does not depend on has a gradient of 0.

    Args:
        model: runs in evaluation mode.
        images: normalised (N, 3, H, W).
        scalar: turns the model's output into a scalar tensor.
        keep_map: what is kept of a layer's (name, map), asked for in the forward pass. It must not share memory with
            the map, over which the network may write.
        keep_context: the same for (name, gradient), in the backward pass.
    """
    readings = {name: _Reading(model, name, len(images), keep_map, keep_context) for name in names}
    layers = {name: resolve_layer(model, name) for name in names}
    with frozen(model), evaluating(model), torch.enable_grad(), contextlib.ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_hook(readings[name]))
        total = scalar(model(images.detach()))
        _check_all_ran(names, [name for name, each in readings.items() if each.kept_map is not None])
        starts = [each.start for each in readings.values() if each.start is not None]
        if starts and total.requires_grad:
            torch.autograd.grad(total, starts, allow_unused=True)
    return {name: each.result() for name, each in readings.items()}


class _Reading:
    """A forward hook that reads a layer's map, and its gradient as soon as the backward pass knows it.

    All parameters are frozen. So an output that asks for no gradient lies behind no other layer that is read: the graph
    starts there.
    """

    def __init__(self, model: nn.Module, name: str, image_count: int, keep_map: Keep, keep_context: Keep) -> None:
        self._model = model
        self._name = name
        self._image_count = image_count
        self._keep_map = keep_map
        self._keep_context = keep_context
        self._shape: tuple[int, ...] = ()
        self._kept_context: Tensor | None = None
        self.kept_map: Tensor | None = None
        self.start: Tensor | None = None

    def __call__(self, module: nn.Module, inputs: object, output: Output) -> Output:
        """Read the output, and pass on what the network gets in its place."""
        if self.kept_map is not None:
            raise _ran_twice(self._name)
        tensor = tensor_of(output, self._model, self._name)
        with torch.no_grad():
            values = as_map(output, self._model, self._name).detach()
            _check_batch(len(values), self._image_count, self._name)
            self._shape = tuple(values.shape)
            self.kept_map = self._keep_map(self._name, values)
        if not tensor.requires_grad:
            self.start = tensor.detach().requires_grad_()
            # A copy, because many networks write over an output, which a leaf of the graph does not allow.
            begun = self.start.clone()
            output, tensor = with_tensor(output, tensor, begun), begun
        # It gets the gradient of the values as they are now, also where the network writes over them later.
        tensor.register_hook(functools.partial(self._read_gradient, _without(output, tensor)))
        return output

    def _read_gradient(self, around: Output, gradient: Tensor) -> None:
        whole = with_tensor(around, tensor_of(around, self._model, self._name), gradient)
        values = as_map(whole, self._model, self._name).detach()
        self._kept_context = self._keep_context(self._name, values)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return what was kept of the map and of its gradient."""
        assert self.kept_map is not None, "the layer has run"
        if self._kept_context is None:
            zeros = torch.zeros(self._shape, dtype=self.kept_map.dtype, device=self.kept_map.device)
            self._kept_context = self._keep_context(self._name, zeros)
        return self.kept_map, self._kept_context


def _without(output: Output, tensor: Tensor) -> Output:
    """Return an output to read gradients by: of its shape, without its graph and without the tensor's memory."""
    hole = tensor.new_zeros(1).expand(tensor.shape)
    if isinstance(output, Tensor):
        return hole
    rest = (each.detach() if isinstance(each, Tensor) else each for each in with_tensor(output, tensor, hole))
    return tuple(rest)
