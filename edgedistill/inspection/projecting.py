"""A layer's output put in a subspace, and the rest of the network run on it."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgedistill.networks.layers import as_map, resolve_layer
from edgedistill.networks.maps import Output, copy_output
from edgedistill.subspaces.directions import Subspace

# Of a network that is run on from the middle; beyond it the middle was not all there was.
LARGEST_DIFFERENCE = 1e-5


def project(output: Output, subspace: Subspace, rank: int, model: nn.Module, name: str) -> Output:
    """Replace every position a of a layer's output by mu + U_K U_K^T (a - mu), in the output's own format.

    Args:
        output: as the layer returned it: maps (N, D, H, W), channels-last maps (N, H, W, D), tokens (N, T, D) or
            features (N, D), or a tuple with one that `as_map` reads. Prefix tokens stay as they are.
        subspace: with all its D directions.
        rank: K of them are kept.
        model: the network.
        name: the layer.

    Raises:
        EdgeDistillError: the output is none of these.
    """
    mapped = as_map(output, model, name)
    if isinstance(output, Tensor):
        return _project_values(output, mapped, subspace, rank)
    return type(output)(
        _project_values(each, mapped, subspace, rank) if _is_read(each, mapped) else each for each in output
    )


def _is_read(element: object, mapped: Tensor) -> bool:
    """Tell whether an element of a tuple is the one that its map was read from: a map is a view of it."""
    return isinstance(element, Tensor) and element.untyped_storage().data_ptr() == mapped.untyped_storage().data_ptr()


def _project_values(values: Tensor, mapped: Tensor, subspace: Subspace, rank: int) -> Tensor:
    # Maps are read as they are; every other format has its channels last.
    axis = 1 if mapped is values else -1
    prefix = values.shape[1] - mapped.shape[2] * mapped.shape[3] if values.ndim == 3 else 0
    # In two steps, because Apple's GPUs have no float64 to be converted there.
    mean, basis = (each.to(values.dtype).to(values.device) for each in (subspace.mean, subspace.basis[:, :rank]))
    centred = values[:, prefix:].movedim(axis, -1) - mean if prefix else values.movedim(axis, -1) - mean
    kept = (mean + centred @ basis @ basis.T).movedim(-1, axis)
    return torch.cat([values[:, :prefix], kept], dim=1) if prefix else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Midway:
    """A forward pass that can be run on from a layer.

    Attributes:
        output: what the layer returned.
        logits: what the network returned.
        resume: runs the network on from another output of that layer, and returns its logits.
    """

    output: Output
    logits: Tensor
    resume: Callable[[Output], Tensor]


def run_midway(model: nn.Module, name: str, images: Tensor) -> Midway:
    """Run a network once such that what comes after a layer can be run again and again.

    Running on repeats what the modules before the layer returned instead of running them. That is right where modules
    only return values. It is wrong where one writes over an input that is used again. Running on from the layer's own
    output shows this, and then the whole network runs each time.

    Args:
        model: in evaluation mode, and without gradients; left as it was found.
        name: a layer that runs once.
        images: normalised (N, 3, H, W).
    """
    layer = resolve_layer(model, name)
    logits, outputs = _record_run(model, layer, images)
    before = {module: output for module, output in outputs.items() if module is not layer}

    def resume(output: Output) -> Tensor:
        return _run_replaying(model, {**before, layer: output}, images)

    def restart(output: Output) -> Tensor:
        return _run_replacing(model, layer, output, images)

    same = torch.allclose(
        resume(outputs[layer]), logits, rtol=LARGEST_DIFFERENCE, atol=LARGEST_DIFFERENCE * _size(logits)
    )
    return Midway(output=outputs[layer], logits=logits, resume=resume if same else restart)


@contextlib.contextmanager
def projecting(model: nn.Module, subspaces: Mapping[str, tuple[Subspace, int]]) -> Iterator[None]:
    """Project several layers at once in every forward pass of the block: {layer: (all its directions, K)}."""
    with contextlib.ExitStack() as hooks:
        for name, (subspace, rank) in subspaces.items():
            layer = resolve_layer(model, name)
            hook = layer.register_forward_hook(_Projector(model, name, subspace, rank))
            hooks.callback(hook.remove)
        yield


@dataclass(frozen=True, slots=True)
class _Projector:
    """A forward hook that projects a layer's output."""

    model: nn.Module
    name: str
    subspace: Subspace
    rank: int

    def __call__(self, module: nn.Module, inputs: object, output: Output) -> Output:
        return project(output, self.subspace, self.rank, self.model, self.name)


def _size(logits: Tensor) -> float:
    return float(logits.abs().max())


def _record_run(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, dict[nn.Module, Output]]:
    """Return the logits, and what the outermost modules that ran before the layer, or are it, returned."""
    recorder = _Recorder(layer)
    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            if module is layer or layer not in set(module.modules()):
                hooks.callback(module.register_forward_pre_hook(recorder.enter).remove)
                hooks.callback(module.register_forward_hook(recorder.leave).remove)
        logits: Tensor = model(images)
    return logits, recorder.once()


class _Recorder:
    """Notes the outputs of outermost modules until the layer has returned."""

    def __init__(self, layer: nn.Module) -> None:
        self._layer = layer
        self._calls: Counter[nn.Module] = Counter()
        self._outputs: dict[nn.Module, Output] = {}
        self._depth = 0

    def enter(self, module: nn.Module, inputs: object) -> None:
        self._calls[module] += 1
        self._depth += 1

    def leave(self, module: nn.Module, inputs: object, output: Output) -> None:
        self._depth -= 1
        if self._depth == 0 and self._layer not in self._outputs:
            self._outputs[module] = copy_output(output)

    def once(self) -> dict[nn.Module, Output]:
        # A module that runs again later must run then, so it cannot be made to repeat what it returned.
        return {module: output for module, output in self._outputs.items() if self._calls[module] == 1}


def _run_replaying(model: nn.Module, outputs: Mapping[nn.Module, Output], images: Tensor) -> Tensor:
    """Run a network in which some modules return given values."""
    own = {module: module.__dict__.get("forward") for module in outputs}
    try:
        for module, output in outputs.items():
            module.__dict__["forward"] = functools.partial(_replay, output)
        logits: Tensor = model(images)
    finally:
        for module, forward in own.items():
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.__dict__["forward"] = forward
    return logits


def _replay(output: Output, *inputs: object, **options: object) -> Output:
    copy: Output = copy_output(output)
    return copy


def _run_replacing(model: nn.Module, layer: nn.Module, output: Output, images: Tensor) -> Tensor:
    hook = layer.register_forward_hook(lambda *_: copy_output(output))
    try:
        logits: Tensor = model(images)
    finally:
        hook.remove()
    return logits
