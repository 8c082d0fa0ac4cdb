"""Batch normalisation folded into the convolutions before it: the same answers but for rounding, with fewer operations.

In evaluation mode a batch normalisation is a scale and a shift of each channel. A convolution's weights can take them
over if nothing else reads its output (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2).
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

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONVOLVES = frozenset({"conv1d", "conv2d", "conv3d"})
# Calls that tell of a tensor's form, and not of its values, unless they return a tensor.
_OF_FORM = frozenset(
    {"dim", "ndimension", "size", "stride", "numel", "nelement", "__len__", "__get__", "is_contiguous", "get_device"}
    | {"is_floating_point", "is_complex", "element_size"}
)


class Fold(NamedTuple):
    """The names of a convolution, and of the batch normalisation that alone reads its output."""

    convolution: str
    norm: str


def find_folds(model: nn.Module, images: Tensor) -> list[Fold]:
    """Watch the model answer, and return the batch normalisations that can be folded, in the order of the pass.

    A convolution that runs more than once stays, and so does one whose weights or output anything else reads: another
    layer, or a call whose result is no tensor, such as `chunk` or `item`.

    Args:
        model: in evaluation mode.
        images: the model's input (N, ...).
    """
    watching = _Watching(model)
    with torch.no_grad(), watching:
        model(images)
    return watching.folds()


@contextlib.contextmanager
def folded(model: nn.Module, folds: Sequence[Fold]) -> Iterator[None]:
    """Let convolutions do the work of the batch normalisations after them inside the block."""
    layers = dict(model.named_modules())
    with contextlib.ExitStack() as stack:
        for fold in folds:
            convolution, norm = layers[fold.convolution], layers[fold.norm]
            stack.enter_context(_with_parameters(convolution, _fuse(convolution, norm)))
            passing = _Passing()
            stack.callback(norm.register_forward_pre_hook(passing.begin).remove)
            stack.callback(norm.register_forward_hook(passing.end, always_call=True).remove)
        yield


class _Watching(TorchFunctionMode):
    """Sees which convolution's output each batch normalisation takes, and counts who reads what they hold and make."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        # By the id of the weight of a convolution, with its bias, or of the running mean of a normalisation.
        self._holders: dict[int, tuple[str, Tensor | None]] = {}
        holders: Counter[int] = Counter()
        for name, module in model.named_modules():
            held, bias = _held_by(module)
            if held is not None:
                self._holders[id(held)] = name, bias
                holders[id(held)] += 1
        for shared in (each for each, count in holders.items() if count > 1):
            del self._holders[shared]
        self._reads: Counter[int] = Counter()
        # Outputs of convolutions, with the weights. Tensors are kept, so that no other one gets the id of a known one.
        self._made: dict[int, tuple[str, Tensor, tuple[Tensor, Tensor | None]]] = {}
        self._taken: dict[str, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name in _OF_FORM and not isinstance(result, Tensor):
            return result
        self._reads.update(id(each) for each in _flat((*args, *kwargs.values())) if isinstance(each, Tensor))
        given = dict(zip(_ARGUMENTS.get(name, ()), args, strict=False)) | kwargs
        if func is F.batch_norm:
            self._see_norm(given)
        elif name in _CONVOLVES:
            self._see_convolution(given, result)
        return result

    def _see_norm(self, given: Mapping[str, Any]) -> None:
        name, _ = self._holders.get(id(given.get("running_mean")), ("", None))
        if name and not given.get("training", False):
            self._taken[name] = given["input"], given["running_mean"]

    def _see_convolution(self, given: Mapping[str, Any], result: Tensor) -> None:
        name, bias = self._holders.get(id(given["weight"]), ("", None))
        if name and given.get("bias") is bias:
            self._made[id(result)] = name, result, (given["weight"], bias)
            self._reads[id(result)] = 0  # those so far were of a tensor that is gone

    def folds(self) -> list[Fold]:
        """Return what was seen."""
        found = []
        for norm, (values, mean) in self._taken.items():
            if id(values) not in self._made:
                continue
            convolution, _, weights = self._made[id(values)]
            read = (values, mean, *(each for each in weights if each is not None))
            if all(self._reads[id(each)] == 1 for each in read):
                found.append(Fold(convolution, norm))
        return found


_ARGUMENTS = {
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training"),
    **dict.fromkeys(_CONVOLVES, ("input", "weight", "bias")),
}


def _held_by(module: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the tensor that a layer is known by, and its bias; None for another module."""
    if isinstance(module, _CONVOLUTIONS) and {"weight", "bias"} <= module._parameters.keys():
        return module._parameters["weight"], module._parameters["bias"]
    return (module.running_mean if isinstance(module, BATCH_NORMS) else None), None


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


def _flat(arguments: Iterable[Any]) -> Iterator[Any]:
    """Yield arguments, and what is in those that are lists or mappings."""
    for each in arguments:
        if isinstance(each, list | tuple):
            yield from _flat(each)
        elif isinstance(each, Mapping):
            yield from _flat(each.values())
        else:
            yield each


def _fuse(convolution: Any, norm: Any) -> dict[str, nn.Parameter]:
    """Return the convolution's weight and bias with the normalisation in them, computed in double precision."""
    weight, mean, variance = (
        each.detach().double() for each in (convolution.weight, norm.running_mean, norm.running_var)
    )
    bias, scale, shift = (
        None if each is None else each.double() for each in (convolution.bias, norm.weight, norm.bias)
    )
    fused = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    return {
        name: nn.Parameter(values.to(convolution.weight.dtype), requires_grad=False)
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
