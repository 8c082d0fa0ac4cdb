"""torch's two ONNX exporters in one form: the same names, any batch size, and nothing of this machine in the file."""

import ast
import contextlib
import copy
import importlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from edgedistill.export.deployed import Deployed
from edgedistill_deploy.errors import EdgeDistillError

# The operator sets that torch's own constants name for the TorchScript exporter (torch.onnx._constants).
_TORCHSCRIPT_NEWEST = 20
_SCOPES = "pkg.torch.onnx.name_scopes"  # the dynamo exporter's note on each node, a list in Python's notation
_STDOUT = 1  # the descriptor
_DYNAMO_OLDEST = 18  # the dynamo exporter never writes an older set
_TRANSLATIONS: dict[Hashable, Any] = {}  # the dynamo exporter's tables, which differ by operator set


def export_by_dynamo(model: Deployed, example: Tensor, opset: int) -> onnx.ModelProto:
    """Export by torch.export, which follows the program; example is uint8 (2, H, W, 3)."""
    if opset < _DYNAMO_OLDEST:
        raise EdgeDistillError(f"it writes opset {_DYNAMO_OLDEST} and newer")
    with quiet(), _translations_read_once():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=["image"],
            output_names=list(model.output_names),
            dynamic_shapes=({0: "batch"},),
        )
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="edgedistill-export-") as folder:
        path = Path(folder) / "model.onnx"
        program.save(str(path), external_data=True)
        return onnx.load(path)


@contextlib.contextmanager
def _translations_read_once() -> Iterator[None]:
    """Keep the exporter's table of translations for the next export: reading their sources takes it a second each time.

    The table is no public part of torch: where a release has none of this form, the exporter reads it as ever.
    """
    try:
        registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        read = registry.__dict__["from_torchlib"]
    except (ImportError, AttributeError, KeyError):
        yield
        return
    if not isinstance(read, classmethod):
        yield
        return

    def from_torchlib(cls: Any, *given: Any, **named: Any) -> Any:
        # A module that is imported later, such as torchvision, can bring operators for more translations.
        key = (cls, given, tuple(sorted(named.items())), "torchvision" in sys.modules)
        if key not in _TRANSLATIONS:
            _TRANSLATIONS[key] = read.__get__(None, cls)(*given, **named)
        kept = copy.copy(_TRANSLATIONS[key])
        kept.functions = {name: list(each) for name, each in kept.functions.items()}  # an export may add to them
        return kept

    registry.from_torchlib = classmethod(from_torchlib)
    try:
        yield
    finally:
        registry.from_torchlib = read


def export_by_torchscript(model: Deployed, example: Tensor, opset: int) -> onnx.ModelProto:
    """Export by tracing, which records the operations on an example; example is uint8 (2, H, W, 3).

    Other images may need other operations, so black, white and noise are traced and must give the same record.
    """
    if opset > _TORCHSCRIPT_NEWEST:
        raise EdgeDistillError(f"it writes opset {_TORCHSCRIPT_NEWEST} and older")
    noise = torch.randint(256, example.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    traced = [
        _trace(model, each, opset) for each in (noise, torch.zeros_like(example), example.new_full(example.shape, 255))
    ]
    if any(each.SerializeToString() != traced[0].SerializeToString() for each in traced):
        raise EdgeDistillError("it records one path through the model, and which path is taken depends on the image")
    graph = traced[0]
    _give_each_its_own_weights(graph.graph)
    _name_folded_weights(graph.graph)
    return graph


def _trace(model: Deployed, example: Tensor, opset: int) -> onnx.ModelProto:
    names = list(model.output_names)
    folder = tempfile.TemporaryDirectory(prefix="edgedistill-export-")
    with folder as name, quiet(), _nothing_on_stdout(), torch.no_grad():
        path = Path(name) / "model.onnx"
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=names,
            dynamic_axes={name: {0: "batch"} for name in ("image", *names)},
        )
        return onnx.load(path)


FOLLOWS = "dynamo"  # the exporter that follows the program itself, and not the record of a run
# In the order in which they are tried.
EXPORTERS: Mapping[str, Callable[[Deployed, Tensor, int], onnx.ModelProto]] = {
    FOLLOWS: export_by_dynamo,
    "torchscript": export_by_torchscript,
}


def modules_of_values(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the dotted module name of each value that the nodes of a newly exported graph make."""
    return {value: _module_of_node(node) for node in graph.node for value in node.output}


def _module_of_node(node: onnx.NodeProto) -> str:
    noted = {entry.key: entry.value for entry in node.metadata_props}.get(_SCOPES)
    if noted is None:
        return _module_of_scope(node.name)
    # The list has the modules from the outermost to the innermost, then the operation.
    scopes: list[str] = ast.literal_eval(noted)
    return scopes[-2] if len(scopes) > 1 else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' progress notes, graphs and deprecation warnings off the user's terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _nothing_on_stdout() -> Iterator[None]:
    """Keep the graph that this exporter prints when it fails off stdout, because a program may read stdout."""
    sys.stdout.flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # stdout is closed
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), _STDOUT)
            yield
    finally:
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _give_each_its_own_weights(graph: onnx.GraphProto) -> None:
    """Undo the sharing of equal weights through Identity nodes: quantisers do not see weights in them."""
    weights = {each.name: each for each in graph.initializer}
    shared = [node for node in graph.node if node.op_type == "Identity" and node.input[0] in weights]
    for node in shared:
        copy = graph.initializer.add()
        copy.CopyFrom(weights[node.input[0]])
        copy.name = node.output[0]
        graph.node.remove(node)


def _name_folded_weights(graph: onnx.GraphProto) -> None:
    """Name folded weights (onnx::Conv_12) after the module whose node reads them, like all other weights."""
    names = {each.name for each in graph.initializer}
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))
    for weight in graph.initializer:
        used = readers.get(weight.name, [])
        if not weight.name.startswith("onnx::") or len(used) != 1 or used[0][1] not in (1, 2):
            continue
        node, place = used[0]
        name = f"{_module_of_scope(node.name)}.{('weight', 'bias')[place - 1]}"
        if name not in names:
            names.add(name)
            weight.name = node.input[place] = name


def _module_of_scope(node_name: str) -> str:
    """Return the dotted module of a node: model.layer1.0.conv1 for "/model/layer1/layer1.0/conv1/Conv"."""
    parts: list[str] = []
    for part in node_name.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    return ".".join(parts)
