"""The tensor operations of a forward pass: named, watched and changed; the network itself does not change."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Functions whose second argument is a weight with output channels first.
WEIGHTED = ("conv1d", "conv2d", "conv3d", "linear")


class CallKey(NamedTuple):
    """One call in a forward pass: the function's name, and how many of that name came before it."""

    function: str
    number: int


# The network's input, which no call makes.
NETWORK_INPUT = CallKey("input", 0)


class TensorCalls(TorchFunctionMode):
    """Sees every torch function called inside the `with` block, one forward pass.

    A network without branches on its data makes the same calls in every pass, also with hooks on its modules, so a
    `CallKey` always means the same operation. Calls that torch functions make themselves are not seen.
    """

    # The function of this call, for `after` to call with other arguments; such calls are not seen.
    again: functools.partial[Any]

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def before(self, key: CallKey, args: Sequence[Any]) -> Sequence[Any]:
        """Return the arguments for the function."""
        return args

    def after(self, key: CallKey, args: Sequence[Any], result: Any) -> Any:
        """Return the result of the call."""
        return result

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function between `before` and `after`."""
        name = str(getattr(func, "__name__", func))
        key = CallKey(name, self._counts[name])
        self._counts[name] += 1
        args = self.before(key, args)
        self.again = functools.partial(func, **(kwargs or {}))
        return self.after(key, args, self.again(*args))


class CallRecorder(TensorCalls):
    """Keeps the result of every call, and the calls that made its arguments.

    Attributes:
        values: copies of the results that are tensors of floats, in the order of the calls; first the network's input.
        sources: by call, the calls that made its arguments, in their order.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.values = {NETWORK_INPUT: images.detach().clone()}
        self.sources: dict[CallKey, tuple[CallKey, ...]] = {NETWORK_INPUT: ()}
        self._makers = {id(images): NETWORK_INPUT}
        # No other tensor gets the id of one that is alive.
        self._alive: list[Tensor] = [images]

    def after(self, key: CallKey, args: Sequence[Any], result: Any) -> Any:
        """Keep a copy of the result."""
        if isinstance(result, Tensor) and result.is_floating_point():
            self.sources[key] = tuple(self._makers[id(each)] for each in _tensors(args) if id(each) in self._makers)
            # A copy, because many networks write over their results.
            self.values[key] = result.detach().clone()
            self._makers[id(result)] = key
            self._alive.append(result)
        return result


def _tensors(args: Sequence[Any]) -> Iterator[Tensor]:
    for each in args:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, (tuple, list)):
            yield from (part for part in each if isinstance(part, Tensor))


def record_calls(network: torch.nn.Module, images: Tensor) -> CallRecorder:
    """Run a network in evaluation mode on normalised images (N, 3, H, W) and return its calls."""
    calls = CallRecorder(images)
    with torch.no_grad(), calls:
        network(images)
    return calls
