"""From a torch classifier to an ONNX file that is checked before it replaces an older one."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgedistill.export._onnx_checking import check_against_torch
from edgedistill.export._onnx_exporters import EXPORTERS, FOLLOWS, modules_of_values, quiet
from edgedistill.export.deployed import Deployed, answers_alike, harmless_folds
from edgedistill.export.onnx_targets import IR_VERSIONS
from edgedistill.networks.folding import folded
from edgedistill.networks.modes import evaluating, frozen, out_of_place, writes_in_place
from edgedistill_deploy.errors import EdgeDistillError, NotWrittenError
from edgedistill_deploy.files.writing import naming_no_room, sha256_of_file, write_whole

# A message of protocol buffers, and so an ONNX file with its weights inside, cannot be larger than 2 GiB.
SINGLE_FILE_BYTES = 2_000_000_000
DATA_SUFFIX = ".data"
# The ONNX file's metadata has the sha256 of the weights beside it, so that its own sha256 depends on them.
DATA_SHA256 = "edgedistill.data_sha256"
# Smaller tensors stay inside the file, so that shapes can be inferred without the weights beside it.
_KEPT_INSIDE_BYTES = 1024
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_REASON_LENGTH = 300  # characters: an exporter's own message can quote whole graphs


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxRecord:
    """How an ONNX file was made.

    Attributes:
        exporter: torch's exporter that made it, dynamo or torchscript.
        fell_back_because: the message of the exporter that was tried before, if any.
        data: the file beside it with its weights; None where they are inside.
    """

    opset: int
    ir_version: int
    exporter: str
    fell_back_because: str | None
    data: Path | None

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's record."""
        return {
            "opset": self.opset,
            "ir_version": self.ir_version,
            "exporter": self.exporter,
            "fell_back_because": self.fell_back_because,
        }


def write_onnx(
    model: Deployed,
    image_size: tuple[int, int],
    path: Path,
    *,
    opset: int,
    metadata: Mapping[str, str],
    samples: npt.NDArray[np.uint8] | None = None,
    single_file_bytes: int = SINGLE_FILE_BYTES,
) -> OnnxRecord:
    """Export with torch's dynamo exporter, or with its TorchScript exporter when that fails.

    The input is `image` uint8 (batch, H, W, 3). The outputs are `logits` float32 (batch, C) and, with a rejector,
    `in_domain` bool (batch,). Source lines and paths are removed from the graph, so that the same weights give the same
    bytes. When a check fails, an older file stays.

    Args:
        model: the network to export.
        image_size: (H, W).
        path: of the ONNX file.
        opset: the ONNX operator set, which also decides the IR version.
        metadata: of the file.
        samples: prepared images, uint8 (N, H, W, 3); the file and the model must agree on them.
        single_file_bytes: a larger model keeps its weights in a second file beside it, PATH.data.

    Raises:
        EdgeDistillError: both exporters failed (the message gives their reasons), or file and model do not agree.
    """
    example = torch.zeros(2, *image_size, 3, dtype=torch.uint8)
    reasons: dict[str, str] = {}
    for exporter in EXPORTERS:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            staged = Path(folder) / path.name
            try:
                with naming_no_room(Path(tempfile.gettempdir(), path.name)):  # torch's exporters write there
                    graph, modules = _export_graph(exporter, model, example, opset)
                with naming_no_room(path, _weight_bytes(graph)):
                    data = _save(graph, staged, metadata, single_file_bytes)
            except NotWrittenError:
                raise
            except Exception as error:  # noqa: BLE001  # the exporters' own errors have no common class
                reasons[exporter] = _reason(error)
                continue
            if samples is not None:
                check_against_torch(staged, model, samples, data=data, modules=modules)
            return OnnxRecord(
                opset=opset,
                ir_version=IR_VERSIONS[opset],
                exporter=exporter,
                fell_back_because=next(iter(reasons.values()), None),
                data=_put_in_place(staged, data, path),
            )
    raise EdgeDistillError(
        f"The model cannot be exported to ONNX opset {opset}. "
        + " ".join(f"torch's {name} exporter: {reason}." for name, reason in reasons.items())
        + " Try another --opset, or replace what they name in the student."
    )


def _export_graph(
    exporter: str, model: Deployed, example: torch.Tensor, opset: int
) -> tuple[onnx.ModelProto, Mapping[str, str]]:
    """Export with one of the exporters; return the graph and the module of each value in it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(model))
        # torch.export follows no gradients through parameters that ask for none: a fifth of its time.
        stack.enter_context(frozen(model))
        for change in _quicker_forms(exporter, model, example.shape[1:3]):
            stack.enter_context(change)
        graph = EXPORTERS[exporter](model, example, opset)
    modules = modules_of_values(graph.graph)
    _tidy(graph, opset)
    _name_nodes(graph.graph, modules)
    return graph, modules


def _quicker_forms(
    exporter: str, model: Deployed, image_size: Sequence[int]
) -> list[contextlib.AbstractContextManager[None]]:
    """Return changes for the time of an export that save much of it and change no answer beyond rounding.

    torch.export takes tens of milliseconds for each batch normalisation, and for each activation that writes over its
    input. The exporters fold normalisations too, but in the graph that they have made. The TorchScript exporter gets
    them as they are: it compares what other images record, and two branches must not become alike.
    """
    # Another number of images than in the example: what a network keeps for this many must not become part of a graph.
    noise = np.random.default_rng(0).integers(0, 256, (3, *image_size, 3), dtype=np.uint8)
    noise[1], noise[2] = 0, 255
    found: list[contextlib.AbstractContextManager[None]] = []
    with quiet():
        try:
            if any(map(writes_in_place, model.modules())) and answers_alike(model, noise, out_of_place(model), 0):
                found.append(out_of_place(model))
            if exporter == FOLLOWS and (folds := harmless_folds(model, noise)):
                found.append(folded(model, folds))
        except Exception:  # noqa: BLE001  # the exporter meets it too, and its sentence is kept
            return found
    return found


def _reason(error: Exception) -> str:
    """Return the first line of the innermost error, without colours; outer errors only name a step."""
    bottom: BaseException = error
    while bottom.__cause__ is not None:
        bottom = bottom.__cause__
    text = _COLOUR.sub("", str(bottom))
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:_REASON_LENGTH].rstrip(". ")


def _tidy(model: onnx.ModelProto, opset: int) -> None:
    """Set the IR version that belongs to the operator set, and drop what is no part of the computation.

    Raises EdgeDistillError for a wrong operator set and for operators outside the standard.
    """
    written = {entry.domain: entry.version for entry in model.opset_import}.get("", 0)
    if written != opset:
        raise EdgeDistillError(f"it wrote opset {written} where {opset} was asked for")
    foreign = [node for graph in _graphs(model.graph) for node in graph.node if node.domain]
    if foreign:
        raise EdgeDistillError(f"it wrote the operator {foreign[0].domain}.{foreign[0].op_type}, which is not standard")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    model.ir_version = IR_VERSIONS[opset]
    _let_only_the_cast_read_pixels(model.graph)
    for graph in _graphs(model.graph):
        # Source lines and absolute paths.
        graph.ClearField("doc_string")
        del graph.metadata_props[:]
        for each in (*graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
            del each.metadata_props[:]
            each.ClearField("doc_string")


def _name_nodes(graph: onnx.GraphProto, modules: Mapping[str, str]) -> None:
    """Call every node MODULE/OPERATOR, so that a tool that times or quantises nodes can tell each one's module.

    A convolution with a folded normalisation gets the module of its weights.
    """
    weights = {each.name for each in graph.initializer if each.name.endswith(".weight")}
    taken: set[str] = set()
    for node in graph.node:
        own = next((value for value in node.input if value in weights), None)
        made = next((value for value in node.output if value), "")
        module = modules.get(made, "") if own is None else own.removesuffix(".weight")
        # A name with an underscore in front is the exporter's own.
        stem = node.op_type if not module or module.startswith("_") else f"{module}/{node.op_type}"
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        taken.add(name)
        node.name = name


def _let_only_the_cast_read_pixels(graph: onnx.GraphProto) -> None:
    """Let nodes that read the images' shape read it from the cast images: TensorRT can do nothing else with uint8."""
    casts = [node for node in graph.node if node.op_type == "Cast" and list(node.input) == ["image"]]
    if not casts:
        return
    others = [node for node in graph.node if node is not casts[0]]
    for node in others:
        for place, name in enumerate(node.input):
            if name == "image" and node.op_type == "Shape":
                node.input[place] = casts[0].output[0]
    del graph.node[:]
    graph.node.extend([casts[0], *others])


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and those inside its nodes: branches and loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _save(model: onnx.ModelProto, path: Path, metadata: Mapping[str, str], single_file_bytes: int) -> Path | None:
    """Save and check the model; weights that are too large go to a file beside it, which is returned."""
    data = None if _weight_bytes(model) <= single_file_bytes else path.with_name(path.name + DATA_SUFFIX)
    if data is not None:
        # The file is written twice: the second time its metadata has the sha256 of the weights.
        onnx.save_model(model, path, save_as_external_data=True, location=data.name, size_threshold=_KEPT_INSIDE_BYTES)
        model = onnx.load(path, load_external_data=False)
        metadata = {**metadata, DATA_SHA256: sha256_of_file(data)}
    onnx.helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())
    # By path, so that weights beside the file are found; `full_check` infers all shapes and types, strictly.
    onnx.checker.check_model(str(path), full_check=True)
    return data


def _weight_bytes(model: onnx.ModelProto) -> int:
    return sum(len(each.raw_data) for each in model.graph.initializer)


def _put_in_place(staged: Path, data: Path | None, path: Path) -> Path | None:
    """Move the files to their places, the weights first; return the path of the weights, if any."""
    for source in (data, staged):
        if source is not None:
            with write_whole(path.with_name(source.name), inside=path.parent) as temporary:
                source.replace(temporary)
    return None if data is None else path.with_name(data.name)
