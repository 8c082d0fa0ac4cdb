"""Layer-wise relevance propagation (Bach et al. 2015), with zennit's rules for convolutional networks.

The rules are those of zennit's composite EpsilonGammaBox, which its documentation recommends for such networks: the
gamma rule in convolutions, the epsilon rule in linear layers. In the first convolution the flat rule takes the place of
the box, because teacher and student can take pixels of different ranges. Sums and means, which are no modules in most
networks, are split in proportion. Batch normalisation is folded into the layer before it.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgedistill.explanation.config import INTEGRATED_GRADIENTS, LRP
from edgedistill.explanation.evidence import first_order_parts
from edgedistill.models.libraries.inputs import GreyInput
from edgedistill.networks.logits import ClassIndices
from edgedistill_deploy.errors import MissingDependencyError, UsageError

_GAMMA = 0.25
# Largest difference of the folded network's logits, relative to the largest logit.
_LARGEST_DIFFERENCE = 1e-3
_STABILISER = 1e-6

_SUMS = frozenset({"add", "add_", "__add__", "__iadd__", "__radd__"})
# Of one activation, with or without a constant beside it.
_LINEAR_OF_ONE = frozenset({"mean", "avg_pool2d", "adaptive_avg_pool2d", "mul", "mul_", "__mul__", "__rmul__", "div"})
# What a pass may do to activations beside sums and means: layers with a rule, ReLU and its like, through which
# relevance passes, and what only picks or moves values.
_WITH_RULE = frozenset({"conv2d", "linear", "batch_norm"})
_PASSING = frozenset({"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "dropout"})
_MOVING = frozenset(
    {
        "max_pool2d", "adaptive_max_pool2d", "flatten", "reshape", "view", "view_as", "permute", "transpose", "cat",
        "pad", "contiguous", "to", "float", "clone", "squeeze", "unsqueeze", "chunk", "split", "flip", "__getitem__",
    }
)  # fmt: skip
_KNOWN = _WITH_RULE | _PASSING | _MOVING
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_LINEAR = (nn.Conv2d, nn.Linear)


def layerwise_relevance(model: nn.Module, images: Tensor, targets: Tensor, classes: ClassIndices | None) -> Tensor:
    """Return the relevance of each pixel (B, H, W).

    Their sum is the evidence, but for what the layers' biases have of it.

    Args:
        model: in evaluation mode; it is the same afterwards.
        images: normalised (B, 3, H, W).
        targets: positions of classes in the subtask (B,).
        classes: of the subtask among the outputs.

    Raises:
        UsageError: a part of the network has no rule.
        MissingDependencyError: zennit is not installed.
    """
    if isinstance(model, GreyInput):
        grey: Tensor = (images * model.weights).sum(dim=1, keepdim=True)
        return layerwise_relevance(model.network, grey, targets, classes)
    folds = _find_folds(model, images)
    pixels = images.detach().requires_grad_()
    with torch.no_grad():
        plain = model(images)
    with _with_rules(model, folds):
        with _Splitting(model):
            outputs = model(pixels)
        _check_same(model, plain, outputs.detach())
        (relevance,) = torch.autograd.grad(outputs, pixels, first_order_parts(outputs, targets, classes))
    total: Tensor = relevance.sum(dim=1)
    return total


def _find_folds(model: nn.Module, images: Tensor) -> list[tuple[list[str], str]]:
    """Watch a pass, and return for each batch normalisation the linear layer whose output it takes: ([name], name)."""
    made: dict[int, tuple[str, Tensor]] = {}
    folds: dict[str, str] = {}
    calls: dict[str, int] = {}

    def watch(name: str) -> Any:
        def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            if isinstance(module, _NORMS):
                folds[name] = made.get(id(inputs[0]), ("", inputs[0]))[0]
            else:
                made[id(output)] = name, output  # kept, so that no other tensor gets its id

        return after

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, (*_LINEAR, *_NORMS)):
                hooks.enter_context(module.register_forward_hook(watch(name)))
        model(images[:1])
    _check_folds(model, folds, calls)
    return [([linear], norm) for norm, linear in folds.items()]


def _check_folds(model: nn.Module, folds: dict[str, str], calls: dict[str, int]) -> None:
    repeated = [name for name, count in calls.items() if count > 1]
    if repeated:
        raise _refusal(model, f"its layer {repeated[0]!r} runs more than once")
    layers = dict(model.named_modules())
    for norm, linear in folds.items():
        if not linear:
            raise _refusal(model, f"its batch normalisation {norm!r} does not come right after a convolution")
        if layers[norm].weight is None or layers[norm].running_mean is None:
            raise _refusal(model, f"its batch normalisation {norm!r} has no scale or no running mean")


@contextlib.contextmanager
def _with_rules(model: nn.Module, folds: list[tuple[list[str], str]]) -> Iterator[None]:
    """Give the layers their rules and fold batch normalisation into them, for the block."""
    try:
        from zennit.canonizers import NamedMergeBatchNorm
        from zennit.composites import SpecialFirstLayerMapComposite
        from zennit.rules import Epsilon, Flat, Gamma, Pass
        from zennit.types import Activation, BatchNorm, Convolution, Linear
    except ImportError as error:
        raise MissingDependencyError("zennit", "explain", f"The method {LRP}") from error
    composite = SpecialFirstLayerMapComposite(
        layer_map=[((Activation, BatchNorm), Pass()), (Convolution, Gamma(gamma=_GAMMA)), (nn.Linear, Epsilon())],
        first_map=[(Linear, Flat())],
        canonizers=[NamedMergeBatchNorm(folds)] if folds else [],
    )
    try:
        composite.register(model)
        layers = dict(model.named_modules())
        for _, norm in folds:
            # zennit leaves it a variance of 1, to which it adds its eps again: 1e-3 in many networks, fifty times.
            layers[norm].running_var.data -= layers[norm].eps
        yield
    finally:
        composite.remove()


class _Splitting(TorchFunctionMode):
    """Watches a pass: sums and means of activations get the rule that splits relevance in proportion."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        data = [each for each in (*args, *kwargs.values()) if _is_data(each)]
        if data and args and data[0] is args[0] and name in _LINEAR_OF_ONE and len(data) == 1:
            return _Proportional.apply(lambda values: func(values, *args[1:], **kwargs), data[0])
        if name in _SUMS and not kwargs and len(data) == len(args) == 2:
            return _Proportional.apply(lambda one, other: one + other, *data)
        result = func(*args, **kwargs)
        if data and _is_data(result) and name not in _KNOWN and not (name in _SUMS and len(data) == 1):
            raise _refusal(self._model, f"there is no rule for its operation {name!r}")
        return result


def _is_data(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad and not isinstance(value, nn.Parameter)


class _Proportional(torch.autograd.Function):
    """A linear operation without weights: each input gets relevance in proportion to its part of the output."""

    @staticmethod
    def forward(ctx: Any, operation: Any, *values: Tensor) -> Tensor:
        ctx.operation = operation
        ctx.save_for_backward(*values)
        output: Tensor = operation(*values)
        return output

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        values = [each.detach().requires_grad_() for each in ctx.saved_tensors]
        with torch.enable_grad():
            output = ctx.operation(*values)
        share = relevance[0] / (output + torch.where(output < 0, -_STABILISER, _STABILISER)).detach()
        slopes = torch.autograd.grad(output, values, share)
        return None, *(value.detach() * slope for value, slope in zip(values, slopes, strict=True))


def _check_same(model: nn.Module, plain: Tensor, folded: Tensor) -> None:
    if float((plain - folded).abs().max()) > _LARGEST_DIFFERENCE * max(1.0, float(plain.abs().max())):
        raise _refusal(model, "its batch normalisation cannot be folded into its convolutions with the same answers")


def _refusal(model: nn.Module, reason: str) -> UsageError:
    return UsageError(
        f"The method {LRP} cannot explain {type(model).__name__}: {reason}. Take --method {INTEGRATED_GRADIENTS}, "
        "which explains every network."
    )
