"""Batch normalisation folded into the layers before it: the same answers but for rounding, with fewer operations.

In evaluation mode a batch normalisation is a scale and a shift of each channel. The weights of a convolution or linear
layer can take them over if nothing else reads its output (Jacob et al. 2018, "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference", section 3.2).
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from edgedistill.networks.modes import BATCH_NORMS
from edgedistill.networks.tensor_calls import WEIGHTED

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRAINING = 5  # the place of batch_norm's argument


class Fold(NamedTuple):
    """The names of a convolution or linear layer, and of the batch normalisation that alone reads its output."""

    layer: str
    norm: str


def find_folds(model: nn.Module, images: Tensor) -> list[Fold]:
    """Watch the model answer, and return the batch normalisations that can be folded, in the order of the pass.

    Layers that run more than once are left out, and those that compute with other weights than they hold.

    Args:
        model: in evaluation mode.
        images: the model's input (N, ...).
    """
    held: dict[str, Tensor | None] = {}
    for name, module in model.named_modules():
        if isinstance(module, _LAYERS):
            held[name] = module._parameters.get("weight")
        elif isinstance(module, BATCH_NORMS):
            held[name] = module.running_mean
    watching = _Watching(held)
    with torch.no_grad(), watching:
        model(images)
    return watching.folds()


@contextlib.contextmanager
def folded(model: nn.Module, folds: Sequence[Fold]) -> Iterator[None]:
    """Let layers do the work of the batch normalisations after them inside the block."""
    layers = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for fold in folds:
            layer, norm = layers[fold.layer], layers[fold.norm]
            stack.enter_context(_with_parameters(layer, _fuse(layer, norm)))
            passing = _Passing()
            stack.callback(norm.register_forward_pre_hook(passing.begin).remove)
            stack.callback(norm.register_forward_hook(passing.end, always_call=True).remove)
        yield


class _Watching(TorchFunctionMode):
    """Sees which layer's output each batch normalisation takes; layers are known by a tensor that they hold."""

    def __init__(self, held: Mapping[str, Tensor | None]) -> None:
        super().__init__()
        self._layers = {id(tensor): name for name, tensor in held.items() if tensor is not None}
        self._runs: Counter[str] = Counter()
        self._readers: Counter[int] = Counter()
        # Tensors are kept, so that no other one gets the id of one that is gone.
        self._made: dict[int, tuple[str, Tensor]] = {}
        self._taken: dict[str, Tensor] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):  # a shape or a number of a tensor
            return result
        self._readers.update(id(each) for each in _flat((*args, *kwargs.values())) if id(each) in self._made)
        held = args[1] if len(args) > 1 else kwargs.get("weight", kwargs.get("running_mean"))
        name = self._layers.get(id(held), "")
        self._runs[name] += 1
        if func is F.batch_norm:
            if name and not (args[_TRAINING] if len(args) > _TRAINING else kwargs.get("training", False)):
                self._taken[name] = args[0] if args else kwargs["input"]
        elif name and _makes_channels(func, result):
            self._made[id(result)] = name, result
        return result

    def folds(self) -> list[Fold]:
        """Return what was seen."""
        return [
            Fold(self._made[id(values)][0], norm)
            for norm, values in self._taken.items()
            if id(values) in self._made
            and self._readers[id(values)] == self._runs[norm] == self._runs[self._made[id(values)][0]] == 1
        ]


class _Passing(TorchFunctionMode):
    """Lets a batch normalisation hand on what it takes, while its module runs."""

    def begin(self, module: nn.Module, inputs: object) -> None:
        self.__enter__()  # type: ignore[no-untyped-call]

    def end(self, module: nn.Module, inputs: object, output: object) -> None:
        self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def _makes_channels(func: Callable[..., Any], result: Tensor) -> bool:
    """Return whether a function weights its input, with channels in the second axis, where a normalisation has them."""
    name = getattr(func, "__name__", "")
    return name in WEIGHTED and (name != "linear" or result.dim() == 2)


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield arguments, and what is in those that are lists."""
    for each in arguments:
        if isinstance(each, list | tuple):
            yield from _flat(each)
        else:
            yield each


def _fuse(layer: Any, norm: Any) -> dict[str, nn.Parameter]:
    """Return the layer's weight and bias with the normalisation in them, computed in double precision."""
    weight, mean, variance = (each.detach().double() for each in (layer.weight, norm.running_mean, norm.running_var))
    bias, scale, shift = (None if each is None else each.double() for each in (layer.bias, norm.weight, norm.bias))
    fused = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    return {
        name: nn.Parameter(values.to(layer.weight.dtype), requires_grad=False)
        for name, values in zip(("weight", "bias"), fused, strict=True)
    }


@contextlib.contextmanager
def _with_parameters(module: nn.Module, parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    before = {name: module._parameters[name] for name in parameters}
    module._parameters.update(parameters)
    try:
        yield
    finally:
        module._parameters.update(before)
