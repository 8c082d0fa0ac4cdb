"""The precision in which TensorRT really computes, read from the engine's inspector and compared with the ONNX file.

A builder without a fast kernel, or with wrong flags, silently makes an fp32 engine of an fp16 model. Here every
convolution and matrix product of the file is looked up among the engine's layers.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.onnx_files.graph import Graph, Node, read_graph

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PASSING_ON = ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze")
_MOVING = ("Reformat", "NoOp", "Constant", "Shuffle", "Cast", "Identity")  # kinds of layers
_NAMED = 5  # nodes named in a sentence

# How TensorRT's versions spell a type in "Format/Datatype" and in "Weights"; the first match counts.
_SPELLINGS = (
    (r"uint8|int32|int64|bool|int4", None),
    (r"int8", "int8"),
    (r"fp8|float8", "fp8"),
    (r"bf16|bfloat16", "bf16"),
    (r"half|fp16|float16", "fp16"),
    (r"float|fp32", "fp32"),
)
_NARROWEST_FIRST = ("int8", "fp8", "bf16", "fp16", "fp32")
# A kernel's name ends in the types it multiplies and adds in, such as f16f16_f16f32_f32 or i8f32_i8i32_f32.
_TACTICS = ((r"i8i32|imma", "int8"), (r"f16f16|f16f32|hmma", "fp16"), (r"f32f32", "fp32"))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of an engine; `nodes` are the ONNX nodes fused in it.

    `evidence` says what the precision was read from: "weights", "kernel" or "inputs". `precision` and `evidence` are
    None where the inspector gives none.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    precision: str | None
    evidence: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionProof:
    """How the engine's layers compare with the precision that the file gives its weighted nodes.

    `verdict`: "proven" when every node found runs as the file says, "mixed" when some run wider, "refuted" when none
    runs as said, "unproven" when the inspector gives no precision. `as_said`, `otherwise` and `unknown` name the nodes.
    """

    wanted: str
    verdict: str
    as_said: tuple[str, ...]
    otherwise: Mapping[str, str]
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the proof as JSON values."""
        return {**asdict(self), "as_said": list(self.as_said), "unknown": list(self.unknown)}


def read_layers(information: str) -> tuple[EngineLayer, ...]:
    """Read the inspector's JSON. Without detailed verbosity, the engine's layers are only names."""
    return tuple(map(_read_layer, json.loads(information)["Layers"]))


def prove_precision(path: Path, precision: str, layers: Sequence[EngineLayer]) -> PrecisionProof:
    """Compare an engine's layers with its ONNX file; `precision` is one of `bundle.precisions.PRECISIONS`."""
    wanted = computes_in(precision)
    said = [name for name, each in read_precisions(path).items() if each == wanted]
    found = _precision_by_node(layers)
    known = {name: found[name] for name in said if name in found}
    as_said = tuple(name for name, each in known.items() if each == wanted)
    otherwise = {name: each for name, each in known.items() if each != wanted}
    unknown = tuple(name for name in said if name not in known)
    verdict = _verdict(bool(said), wanted, len(as_said), len(otherwise))
    return PrecisionProof(wanted=wanted, verdict=verdict, as_said=as_said, otherwise=otherwise, unknown=unknown)


def require_precision(path: Path, proof: PrecisionProof) -> None:
    """Raise EdgeDistillError naming the layers when the proof is refuted."""
    if proof.verdict != "refuted":
        return
    if not proof.otherwise:
        raise EdgeDistillError(
            f"{path.name} is said to be {proof.wanted}, but none of its convolutions and matrix products is; make it "
            "again with edgedistill calibrate."
        )
    got = ", ".join(sorted(set(proof.otherwise.values())))
    raise EdgeDistillError(
        f"TensorRT built {path.name}, whose layers are {proof.wanted}, entirely in {got}: "
        f"{_join_names(tuple(proof.otherwise))}; nothing is measured as {proof.wanted} on it. This GPU may lack "
        f"{proof.wanted} kernels for these shapes."
    )


def describe_proof(proof: PrecisionProof) -> str:
    """Return the proof in a sentence."""
    total = len(proof.as_said) + len(proof.otherwise) + len(proof.unknown)
    if proof.verdict == "proven":
        tail = f"; the inspector does not name {_join_names(proof.unknown)}" if proof.unknown else ""
        return (
            f"The inspector shows {len(proof.as_said)} of {total} weighted layers, in "
            f"{proof.wanted} as the file says{tail}."
        )
    if proof.verdict == "mixed":
        return (
            f"{len(proof.as_said)} of {total} weighted layers run in {proof.wanted}; TensorRT runs wider"
            f" {_join_names(tuple(f'{name} ({got})' for name, got in proof.otherwise.items()))}."
        )
    return "The inspector does not tell the precision of any weighted layer, so it is not proven."


def read_precisions(path: Path) -> dict[str, str]:
    """Return the precision that an ONNX file says each of its named convolutions and matrix products has.

    It is int8 where both factors come from a DequantizeLinear, else the type of the weights. A product of two
    activations in float has none.
    """
    graph = read_graph(path)
    dtypes = {name: values.dtype.name for name, values in read_weights(path)}
    weighted = (node for node in graph.nodes if node.operator in _WEIGHTED and node.name)
    return {node.name: precision for node in weighted if (precision := _read_precision(node, graph, dtypes))}


def _read_precision(node: Node, graph: Graph, dtypes: Mapping[str, str]) -> str | None:
    makers = [graph.makers.get(value) for value in node.inputs[:2]]
    if all(_source(maker, graph) == "DequantizeLinear" for maker in makers):
        return "int8"
    return {"float16": "fp16", "float32": "fp32"}.get(_dtype_of(node.inputs[1], graph, dtypes) or "")


def _source(node: Node | None, graph: Graph) -> str | None:
    while node is not None and node.operator in _PASSING_ON:
        node = graph.makers.get(node.inputs[0])
    return None if node is None else node.operator


def _dtype_of(value: str, graph: Graph, dtypes: Mapping[str, str]) -> str | None:
    while value not in dtypes:
        maker = graph.makers.get(value)
        if maker is None:
            return None
        if maker.operator == "DequantizeLinear":
            value = maker.inputs[1]
        elif maker.operator in _PASSING_ON:
            value = maker.inputs[0]
        else:
            return None
    return dtypes[value]


def _read_layer(described: Any) -> EngineLayer:
    told = {"Name": described} if isinstance(described, str) else described
    name = str(told.get("Name", ""))
    precision, evidence = _precision_of(told)
    marked = re.findall(r"\[ONNX Layer: ([^\x1e\x1f\]]+)\]", str(told.get("Metadata", "")))
    joined = (part.strip() for part in name.split(" + ") if part.strip())  # the name of a fused layer
    return EngineLayer(
        name=name,
        kind=str(told.get("LayerType", "")),
        nodes=tuple(marked or joined),
        precision=precision,
        evidence=evidence,
    )


def _precision_of(layer: Mapping[str, Any]) -> tuple[str, str] | tuple[None, None]:
    """Return the type a layer multiplies in: that of its weights, of its kernel's name, or of its narrowest input."""
    weights = layer.get("Weights")
    if isinstance(weights, Mapping) and (precision := _spelt(str(weights.get("Type", "")))):
        return precision, "weights"
    tactic = str(layer.get("TacticName", ""))
    for pattern, precision in _TACTICS:
        if re.search(pattern, tactic):
            return precision, "kernel"
    read = [_spelt(str(tensor.get("Format/Datatype", ""))) for tensor in layer.get("Inputs", ())]
    known = [each for each in read if each]
    return (min(known, key=_NARROWEST_FIRST.index), "inputs") if known else (None, None)


def _spelt(text: str) -> str | None:
    return next((precision for pattern, precision in _SPELLINGS if re.search(pattern, text.lower())), None)


def _precision_by_node(layers: Sequence[EngineLayer]) -> dict[str, str]:
    """Return each node's precision: the widest of its layers. Layers judged by their inputs count only alone.

    A layer that only moves data has the name of a node, but does not show how that node computes.
    """
    told: dict[str, list[EngineLayer]] = {}
    for layer in layers:
        if layer.precision is not None and layer.kind not in _MOVING:
            for node in layer.nodes:
                told.setdefault(node, []).append(layer)
    return {node: _widest(each) for node, each in told.items()}


def _widest(layers: Sequence[EngineLayer]) -> str:
    firm = [layer for layer in layers if layer.evidence != "inputs"] or layers
    return max((str(layer.precision) for layer in firm), key=_NARROWEST_FIRST.index)


def _verdict(said: bool, wanted: str, as_said: int, otherwise: int) -> str:
    if not said:
        return "unproven" if wanted == "fp32" else "refuted"
    if not as_said:
        return "refuted" if otherwise else "unproven"
    return "mixed" if otherwise else "proven"


def _join_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
