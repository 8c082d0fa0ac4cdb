"""Compares an exported ONNX file with its torch model, and finds the first layer that differs."""

import contextlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from edgedistill.export.deployed import Deployed, logits_in_torch
from edgedistill.networks.modes import evaluating
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Feeds, Session

# Largest difference between ONNX Runtime and torch that is rounding, relative to the largest logit.
TOLERANCE = 1e-3
# Inside the model less is allowed, so that the layer is found where a difference begins.
INNER_TOLERANCE = 1e-4
_SMALLEST_SCALE = 1e-3  # of logits: smaller ones may be rounding alone
_BLOCK = 16  # inner values held at a time


def check_against_torch(
    path: Path,
    model: Deployed,
    samples: npt.NDArray[np.uint8],
    *,
    data: Path | None = None,
    modules: Mapping[str, str] | None = None,
) -> None:
    """Compare ONNX Runtime with torch on real images, one at a time and all at once.

    Args:
        path: the ONNX file.
        model: the source of the file.
        samples: prepared images, uint8 (N, H, W, 3).
        data: the file beside it that holds its weights, if any.
        modules: the module of each value inside the file, as far as the exporter says.

    Raises:
        EdgeDistillError: they differ by more than rounding; it names the worst output and the first layer that differs.
    """
    expected = logits_in_torch(model, samples)
    scale = max(_SMALLEST_SCALE, float(np.abs(expected).max()))
    with open_model(path, precision="fp32", data=data) as session:
        for size in sorted({1, len(samples)}):
            given = logits_of(session, samples[:size])
            if given.shape != expected[:size].shape:
                raise EdgeDistillError(
                    f"The exported {path.name} gives logits of shape {given.shape} for a batch of {size}, where the "
                    f"torch model gives {expected[:size].shape}."
                )
            difference = np.abs(given - expected[:size])
            worst = np.unravel_index(int(difference.argmax()), difference.shape)
            if difference[worst] > TOLERANCE * scale:
                raise EdgeDistillError(
                    f"The exported {path.name} differs from the torch model: with a batch of {size}, logit {worst[1]} "
                    f"of image {worst[0]} is {given[worst]:.5g} instead of {expected[worst]:.5g}. "
                    f"{find_first_layer(path, model, samples[worst[0] : worst[0] + 1], data=data, modules=modules)}"
                )
            _check_decisions(path, model, session, samples[:size])


def _check_decisions(path: Path, model: Deployed, session: Session, samples: npt.NDArray[np.uint8]) -> None:
    """Compare the second output, whether an image is in the domain, with the rejector's answer to the same logits."""
    if model.rejector is None:
        return
    given = session.run({"image": samples})
    expected = model.rejector.accepts(torch.from_numpy(given["logits"])).numpy()
    wrong = np.flatnonzero(given["in_domain"] != expected)
    # The threshold lies at the score of one image, and its decision may differ.
    if len(wrong) > 1:
        raise EdgeDistillError(
            f"The exported {path.name} and the torch model decide differently whether an image is in the domain, for"
            f" {len(wrong)} of {len(samples)} images."
        )


def find_first_layer(
    path: Path,
    model: Deployed,
    samples: npt.NDArray[np.uint8],
    *,
    data: Path | None = None,
    modules: Mapping[str, str] | None = None,
) -> str:
    """Say in a sentence at which layer an ONNX file and its torch model begin to differ.

    The result of each torch layer is searched inside the ONNX file, which runs without optimisation. It should be the
    last value of its shape that the layer's nodes make, or any value where the layer has no nodes. A layer that is
    found agrees, and all that it depends on agrees too. Any other layer differs. The sentence names the first one.
    """
    layers = _trace(model, samples)
    _look_up(layers, _inner_values(path, {"image": samples}, data), modules or {})
    agreeing = _ancestors([layer.origin for layer in layers if layer.found])
    suspects = [layer for layer in layers if not layer.found and layer.origin not in agreeing]
    if not suspects:
        return (
            "Each of its layers agrees when ONNX Runtime computes the graph as it is written, so "
            "its optimisation is at fault."
        )
    first = suspects[0]
    before = [layer.name for layer in layers[: layers.index(first)] if layer.found]
    last = f"; the last layer before it that agrees is {before[-1]!r}" if before else ""
    return (
        f"The first layer that differs is {first.name!r} ({first.kind}){last}. Replace what it computes by operations "
        "that export faithfully, or try another --opset."
    )


@dataclass(slots=True, kw_only=True)
class _Layer:
    """A layer's result in torch, the node of autograd's graph that made it, and whether the ONNX file has it too.

    `found_inside` is about the last value of this shape that the layer's own nodes make; None where it has none.
    """

    module: str
    kind: str
    value: npt.NDArray[np.float32]
    origin: Any
    found_inside: bool | None = None
    found_anywhere: bool = False

    @property
    def name(self) -> str:
        """The layer's name in messages."""
        return {"normalise": "the normalisation", "model": "the model itself"}.get(
            self.module, self.module.removeprefix("model.")
        )

    @property
    def found(self) -> bool:
        """Whether the ONNX file agrees."""
        return self.found_anywhere if self.found_inside is None else self.found_inside


def _trace(model: Deployed, samples: npt.NDArray[np.uint8]) -> list[_Layer]:
    """Run the model and return its layers' results in the order in which they finish, constant ones left out."""
    layers: list[_Layer] = []
    with evaluating(model), torch.enable_grad(), contextlib.ExitStack() as hooks:
        # Autograd's graph shows the dependencies. It begins at a leaf that requires a gradient.
        image = model.normalise(torch.from_numpy(samples)).requires_grad_(True).clone()
        for name, module in model.model.named_modules():
            hook = module.register_forward_hook(_recorder(f"model.{name}" if name else "model", layers))
            hooks.callback(hook.remove)
        model.model(image)
    first = _Layer(module="normalise", kind="Normalise", value=_values(image), origin=image.grad_fn)
    return [first, *(layer for layer in layers if np.ptp(layer.value) > 0)]


def _recorder(module_name: str, layers: list[_Layer]) -> Any:
    def record(module: nn.Module, inputs: object, output: Any) -> Any:
        if isinstance(output, tuple | list):
            return type(output)(record(module, inputs, each) for each in output)
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            return output
        kind = type(module).__name__
        layers.append(_Layer(module=module_name, kind=kind, value=_values(output), origin=output.grad_fn))
        return output.clone()  # many networks write over a layer's output

    return record


def _values(tensor: Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = tensor.detach().float().numpy().copy()
    return values


def _ancestors(origins: Sequence[Any]) -> set[Any]:
    """Return these nodes of autograd's graph and all nodes that they depend on."""
    found: set[Any] = set()
    pending = [each for each in origins if each is not None]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += [before for before, _ in node.next_functions if before is not None]
    return found


def _look_up(
    layers: Sequence[_Layer], values: Iterator[tuple[str, npt.NDArray[Any]]], modules: Mapping[str, str]
) -> None:
    """Mark the layers whose results are among the values inside the ONNX file, in the order of its graph."""
    by_shape: dict[tuple[int, ...], list[_Layer]] = {}
    for layer in layers:
        by_shape.setdefault(layer.value.shape, []).append(layer)
    for name, value in values:
        module = modules.get(name, "")
        for layer in by_shape.get(value.shape, []):
            agrees = _agree(layer.value, value)
            if layer.module and f"{module}.".startswith(f"{layer.module}."):
                layer.found_inside = agrees
            layer.found_anywhere = layer.found_anywhere or agrees


def _agree(expected: npt.NDArray[np.float32], given: npt.NDArray[Any]) -> bool:
    difference = float(np.abs(expected - given).max())
    return math.isfinite(difference) and difference <= INNER_TOLERANCE * float(np.abs(expected).max())


def _inner_values(path: Path, feeds: Feeds, data: Path | None) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the name and content of every float value inside an ONNX file, computed without optimisation."""
    names = [name for node in onnx.load(path, load_external_data=False).graph.node for name in node.output if name]
    for start in range(0, len(names), _BLOCK):
        block = names[start : start + _BLOCK]
        model = onnx.load(path, load_external_data=False)
        given = {each.name for each in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in block if name not in given)
        # The copy lies beside the file, because the weights may lie there.
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".onnx") as copy:
            Path(copy.name).write_bytes(model.SerializeToString())
            with open_model(Path(copy.name), precision="fp32", optimised=False, data=data) as session:
                values = session.run(feeds)
        yield from ((name, values[name]) for name in block if values[name].dtype == np.float32)
