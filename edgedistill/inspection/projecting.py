"""A layer's output projected on a subspace, and the rest of the network run on the result."""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.networks.layers import as_map, resolve_layer
from edgedistill.networks.maps import Output, copy_output
from edgedistill.subspaces.directions import Subspace

# Largest relative difference of the logits of a network that continues from a layer; else the whole network runs.
LARGEST_DIFFERENCE = 1e-5


def project(output: Output, subspace: Subspace, rank: int, model: nn.Module, name: str) -> Output:
    """Replace every position a of a layer's output by mu + U_K U_K^T (a - mu), in the output's own format.

    Args:
        output: what the layer returned: maps (N, D, H, W), channels-last maps (N, H, W, D), tokens (N, T, D) or
            features (N, D), or a tuple with one that `as_map` reads. Prefix tokens stay as they are.
        subspace: with all its D directions; the first `rank` of them are kept.
        model: the network; `name` is the layer in it.

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
    """Tell whether `mapped` is a view of this element of a tuple."""
    return isinstance(element, Tensor) and element.untyped_storage().data_ptr() == mapped.untyped_storage().data_ptr()


def _project_values(values: Tensor, mapped: Tensor, subspace: Subspace, rank: int) -> Tensor:
    # `as_map` returns a map (N, D, H, W) itself; every other format has its channels last.
    axis = 1 if mapped is values else -1
    prefix = values.shape[1] - mapped.shape[2] * mapped.shape[3] if values.ndim == 3 else 0
    # In two steps, because Apple's GPUs have no float64.
    mean, basis = (each.to(values.dtype).to(values.device) for each in (subspace.mean, subspace.basis[:, :rank]))
    centred = values[:, prefix:].movedim(axis, -1) - mean if prefix else values.movedim(axis, -1) - mean
    kept = (mean + centred @ basis @ basis.T).movedim(-1, axis)
    return torch.cat([values[:, :prefix], kept], dim=1) if prefix else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Midway:
    """A forward pass that can continue from a layer: `resume` takes another output of it and returns the logits."""

    output: Output
    logits: Tensor
    resume: Callable[[Output], Tensor]


def run_midway(model: nn.Module, name: str, images: Tensor) -> Midway:
    """Run a network once, so that the part after a layer can run again with other outputs of that layer.

    `resume` repeats what the modules before the layer returned instead of running them. That is right where modules
    only return values, and wrong where one writes over an input that is used again. A trial with the layer's own output
    shows this, and then the whole network runs each time.

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
        resume(outputs[layer]), logits, rtol=LARGEST_DIFFERENCE, atol=LARGEST_DIFFERENCE * float(logits.abs().max())
    )
    return Midway(output=outputs[layer], logits=logits, resume=resume if same else restart)


@contextlib.contextmanager
def projecting(model: nn.Module, subspaces: Mapping[str, tuple[Subspace, int]]) -> Iterator[None]:
    """Project several layers at once in every forward pass of the block: {layer: (all its directions, K)}."""
    with contextlib.ExitStack() as hooks:
        for name, (subspace, rank) in subspaces.items():
            hook = functools.partial(_project_output, subspace=subspace, rank=rank, model=model, name=name)
            hooks.enter_context(resolve_layer(model, name).register_forward_hook(hook))
        yield


def _project_output(module: nn.Module, inputs: object, output: Output, **how: Any) -> Output:
    return project(output, **how)


def _record_run(model: nn.Module, layer: nn.Module, images: Tensor) -> tuple[Tensor, dict[nn.Module, Output]]:
    """Return the logits, and the outputs of the layer and of the outermost modules that ran before it."""
    recorder = _Recorder(layer)
    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            if module is layer or layer not in set(module.modules()):
                hooks.enter_context(module.register_forward_pre_hook(recorder.enter))
                hooks.enter_context(module.register_forward_hook(recorder.leave))
        logits: Tensor = model(images)
    return logits, recorder.once()


class _Recorder:
    """Keeps the outputs of the outermost modules until the layer has returned."""

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
        # A module that runs more than once cannot repeat a single output.
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
    return copy_output(output)


def _run_replacing(model: nn.Module, layer: nn.Module, output: Output, images: Tensor) -> Tensor:
    with layer.register_forward_hook(lambda *_: copy_output(output)):
        logits: Tensor = model(images)
    return logits
