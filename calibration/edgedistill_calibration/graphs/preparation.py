"""What calibration reads from an ONNX graph, and what it changes in one."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.version import __version__

WEIGHTED = ("Conv", "Gemm", "MatMul")  # the operators with weights: only they become faster in INT8
OWN_DOMAINS = ("", "ai.onnx")  # the two spellings of ONNX's own domain of operators
CHANNEL_OPSET = 13  # the first in which QuantizeLinear and DequantizeLinear have an axis


def prepare_graph(source: Path, path: Path) -> onnx.ModelProto:
    """Write a bundle's graph ready for Q/DQ to `path` and return it, see `fold_graph`.

    Raises:
        BundleError: the model does not take uint8 images.
        EdgeDistillError: as `fold_graph`.
    """
    kinds = [(each.name, each.type.tensor_type.elem_type) for each in onnx.load(source).graph.input]
    if kinds != [("image", TensorProto.UINT8)]:
        given = ", ".join(f"{name} ({TensorProto.DataType.Name(kind).lower()})" for name, kind in kinds)
        raise BundleError(f"{source} takes {given}; a bundle's model takes image (uint8) alone.")
    return fold_graph(source, path)


def fold_graph(source: Path, path: Path) -> onnx.ModelProto:
    """Write any graph ready for Q/DQ to `path` and return it.

    Batch normalisation is folded, types are inferred, every node has a name. ONNX Runtime's symbolic shape inference is
    left out because exported graphs have their shapes.

    Raises:
        EdgeDistillError: the graph has no weights, or its opset has no scales by channel.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(source)
    _require_weights_and_axes(model)
    with tempfile.TemporaryDirectory(prefix="edgedistill-calibration-") as folder:
        # ONNX Runtime copies the file, but not weights that lie beside it.
        whole = Path(folder) / source.name
        onnx.save(model, whole)
        quant_pre_process(str(whole), str(path), skip_symbolic_shape=True)
    model = onnx.load(path)
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{place}"
    onnx.save(model, path)
    return model


def _require_weights_and_axes(model: onnx.ModelProto) -> None:
    if not any(node.op_type in WEIGHTED for node in model.graph.node):
        raise EdgeDistillError(f"The model has no {', '.join(WEIGHTED)} node, so there is nothing to bring to INT8.")
    opset = opset_of(model)
    if opset < CHANNEL_OPSET:
        raise EdgeDistillError(
            f"The model has opset {opset}, and INT8 weights with a scale for each channel need {CHANNEL_OPSET}; export"
            f" the student with --opset {CHANNEL_OPSET} or later."
        )


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operator set; 0 where a graph has none."""
    return next((each.version for each in model.opset_import if each.domain in OWN_DOMAINS), 0)


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return a file's metadata."""
    return {each.key: each.value for each in model.metadata_props}


def first_line(error: Exception) -> str:
    """Return the first line of an error of onnx or ONNX Runtime, or its type where it is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def activations(graph: onnx.GraphProto, operators: Sequence[str]) -> list[str]:
    """Return the float32 values that nodes of these kinds read and make, without weights, in the graph's order."""
    floats = {
        value.name
        for value in (*graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    } - {initializer.name for initializer in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in operators]
    return list(dict.fromkeys(name for node in nodes for name in (*node.input, *node.output) if name in floats))


def finish_graph(model: onnx.ModelProto, source: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Make a quantised graph one that any runtime reads.

    It keeps only ONNX's own operator set, and gets the float model's metadata and IR version.

    Raises:
        EdgeDistillError: the graph uses operators that are not ONNX's own, or is not valid.
    """
    foreign = {f"{node.domain}.{node.op_type}" for node in all_nodes(model.graph) if node.domain not in OWN_DOMAINS}
    if foreign:
        raise EdgeDistillError(
            f"The quantised model uses {', '.join(sorted(foreign))}, which not every runtime has; export the student "
            "with ONNX's own operators."
        )
    own = [entry for entry in model.opset_import if entry.domain in OWN_DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(own)
    # These types are of the float graph; every reader infers its own.
    del model.graph.value_info[:]
    model.ir_version = source.ir_version
    model.producer_name, model.producer_version = "edgedistill", __version__
    helper.set_model_props(model, {**metadata_of(source), **metadata})
    require_valid(model)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner)


def require_valid(model: onnx.ModelProto) -> None:
    """Raise EdgeDistillError when a graph is not valid ONNX, types included."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EdgeDistillError(
            f"The model cannot be rewritten as valid ONNX: {first_line(error)}; simplify the student's"
            " graph, or export it with another --opset."
        ) from error
