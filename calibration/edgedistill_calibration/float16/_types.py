"""Which values of a node may be float16, by ONNX's own schemas, so that a converted graph has valid types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, TensorProto, defs

HALF = "tensor(float16)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Movable:
    """The places of a node's float32 inputs and outputs that become float16 together; the others stay float32."""

    inputs: frozenset[int]
    outputs: frozenset[int]


def value_types(model: onnx.ModelProto) -> dict[str, int | None]:
    """Return the known element type of every value of the main graph; None for a value that is no tensor."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    types: dict[str, int | None] = {
        each.name: each.type.tensor_type.elem_type if each.type.HasField("tensor_type") else None
        for each in (*graph.value_info, *graph.input, *graph.output)
    }
    types.update({each.name: each.data_type for each in graph.initializer})
    types.update({each.values.name: None for each in graph.sparse_initializer})
    return types


def opset_versions(model: onnx.ModelProto) -> dict[str, int]:
    """Return the operator set's version by domain; ONNX's own domain is the empty one."""
    return {domain_of(entry.domain): entry.version for entry in model.opset_import}


def domain_of(name: str) -> str:
    """Return a domain's name; ONNX's own has two spellings."""
    return "" if name == "ai.onnx" else name


def has_subgraph(node: onnx.NodeProto) -> bool:
    """Whether a node runs graphs of its own: If, Loop, Scan and the like."""
    return any(each.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for each in node.attribute)


def touches_float(node: onnx.NodeProto, types: Mapping[str, int | None]) -> bool:
    """Whether a node reads or makes float32, or values of unknown type."""
    return has_subgraph(node) or any(
        types.get(name, TensorProto.FLOAT) in (TensorProto.FLOAT, None) for name in (*node.input, *node.output) if name
    )


def movable(node: onnx.NodeProto, types: Mapping[str, int | None], opsets: Mapping[str, int]) -> Movable | str:
    """Return which inputs and outputs of a node become float16, or why none can.

    A type variable of the schema moves as a whole, so inputs that must have one type still have one.
    """
    named = [name for name in (*node.input, *node.output) if name]
    if has_subgraph(node):
        return "runs a subgraph"
    if node.op_type == "BitCast":
        return "reads the bits of float32"
    if any(each.t.data_type == TensorProto.FLOAT for each in node.attribute):
        return "holds float32 numbers of its own"
    if _scatters_with_arithmetic(node):
        return "has no float16 kernel in ONNX Runtime"
    if any(types.get(name, 0) in (None, 0) for name in named):
        return "has values that are no tensors, or of unknown type"
    domain = domain_of(node.domain)
    try:
        schema = defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    except defs.SchemaError:
        return "is not one of ONNX's own operators"
    inputs = _float_places(node.input, schema.inputs, types)
    outputs = _float_places(node.output, schema.outputs, types)
    moved = {place for place, formal in inputs.items() if _may_be_half(formal)}
    bound = {inputs[place].type_str for place in moved}
    fixed = [
        place
        for place, formal in outputs.items()
        if not (_may_be_half(formal) and (formal.type_str in bound or _follows_scale(node)))
    ]
    if casts_to_float(node):
        return Movable(inputs=frozenset(inputs), outputs=frozenset(outputs))
    if not moved or fixed:
        return f"has no float16 form in opset {opsets.get(domain, 1)}"
    return Movable(inputs=frozenset(moved), outputs=frozenset(outputs))


def casts_to_float(node: onnx.NodeProto) -> bool:
    """Whether a node turns other types into float32: a Cast whose target can be float16 instead."""
    return node.op_type == "Cast" and any(each.name == "to" and each.i == TensorProto.FLOAT for each in node.attribute)


def _float_places(
    names: Sequence[str], formals: Sequence[defs.OpSchema.FormalParameter], types: Mapping[str, int | None]
) -> dict[int, defs.OpSchema.FormalParameter]:
    # The last formal parameter of a schema may repeat.
    return {
        place: formals[min(place, len(formals) - 1)]
        for place, name in enumerate(names)
        if name and types[name] == TensorProto.FLOAT
    }


def _may_be_half(formal: defs.OpSchema.FormalParameter) -> bool:
    return formal.is_homogeneous and not formal.type_str.startswith("tensor(") and HALF in formal.types


def _scatters_with_arithmetic(node: onnx.NodeProto) -> bool:
    return node.op_type in ("ScatterND", "ScatterElements") and any(
        each.name == "reduction" and each.s != b"none" for each in node.attribute
    )


def _follows_scale(node: onnx.NodeProto) -> bool:
    """Whether this is a DequantizeLinear of opset 23 or later with no output type, which takes its scale's type."""
    return node.op_type == "DequantizeLinear" and all(each.name != "output_dtype" for each in node.attribute)
