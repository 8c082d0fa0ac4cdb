"""FP16 by typed casts in the graph: values that float16 cannot hold, by measurement, stay in float32.

No flag or runtime decides the types: strongly typed TensorRT networks and ONNX Runtime compute what the file says.
onnxconverter-common does this too, but by lists of operators, and it clips weights above 1e4.
"""

import copy
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from edgedistill_calibration.float16._cast import cast_graph, lift_constants
from edgedistill_calibration.float16._plan import Plan, make_plan, node_name
from edgedistill_calibration.float16._range import Extent, Floats, measure_extents
from edgedistill_calibration.graphs.preparation import first_line, opset_of, require_valid
from edgedistill_calibration.graphs.reading import GROUP, ActivationReader
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_whole

QUANTISED_OPSET = 19  # the first in which QuantizeLinear and DequantizeLinear take float16 scales
ATTEMPTS = 8  # how often further nodes are left in float32 because the outputs are not finite
# Runs a graph on every calibration input and gives the named values, also float inputs, run by run.
Read = Callable[[onnx.ModelProto, Sequence[str]], Iterable[Sequence[Floats]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNode:
    """A node that still computes in float32, and why."""

    node: str  # its name, or its kind and place
    op_type: str
    reason: str
    largest: float | None  # the magnitude that decided it, if any


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Record:
    """What became float16: the nodes left in float32, how many nodes there were, and how many compute in float16."""

    kept: tuple[KeptNode, ...]
    node_count: int
    float16_count: int


def write_float16(source: Path, path: Path, groups: Callable[[int], Iterable[NDArray[np.uint8]]]) -> Float16Record:
    """Write a bundle's model in FP16, or its TensorRT INT8 model in INT8 + FP16.

    Inputs and outputs keep their names and types, the file its metadata, opset and IR version.

    Args:
        source: the fp32 or the int8-tensorrt file.
        path: of the new file.
        groups: called with a number; gives groups of so many prepared calibration images uint8 (n, H, W, 3). They run
            twice, in float32 and to check the result, with one group in memory at a time.

    Raises:
        EdgeDistillError: there are no images, the model gives values that are not finite, its opset has no float16
            scales, or ONNX Runtime cannot run the result.
    """

    def read(model: onnx.ModelProto, names: Sequence[str]) -> Iterable[Sequence[Floats]]:
        reader = ActivationReader(model, names)
        return itertools.chain.from_iterable(map(reader.read, groups(GROUP)))

    model = onnx.load(source)
    _require_half_scales(source, model)
    converted, record = to_float16(model, read)
    with write_whole(path) as temporary:
        onnx.save(converted, temporary)
    return record


def to_float16(model: onnx.ModelProto, read: Read) -> tuple[onnx.ModelProto, Float16Record]:
    """Return a float32 graph in float16 where its values allow, and what stays float32.

    Raises:
        EdgeDistillError: as `write_float16`.
    """
    original = copy.deepcopy(model)
    lift_constants(original)
    inferred = onnx.shape_inference.infer_shapes(original)
    extents = _measure(inferred, read)
    distrusted: dict[int, str] = {}
    for _ in range(ATTEMPTS):
        plan = make_plan(inferred, extents, distrusted)
        converted = copy.deepcopy(original)
        half = cast_graph(converted, plan.moved)
        require_valid(converted)
        outputs = _find_broken_outputs(converted, extents, read)
        if not outputs:
            return converted, _record(original.graph, plan)
        # A runtime may fuse less when it returns inner values, and then none may be broken.
        broken = _first_broken(converted, half, extents, read) or outputs[0]
        distrusted |= dict.fromkeys(
            _places_around(original.graph, broken, distrusted.keys()),
            f"{broken} is not finite when it is computed in float16",
        )
    raise EdgeDistillError(
        "The model's outputs are not finite in FP16, whichever nodes stay in float32; use the fp32 or int8 file."
    )


def _require_half_scales(source: Path, model: onnx.ModelProto) -> None:
    quantised = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    opset = opset_of(model)
    if quantised and opset < QUANTISED_OPSET:
        raise EdgeDistillError(
            f"{source.name} has opset {opset}, and INT8 + FP16 needs {QUANTISED_OPSET}, the first with float16"
            f" scales; export the student with --opset {QUANTISED_OPSET} or later."
        )


def _measure(model: onnx.ModelProto, read: Read) -> dict[str, Extent]:
    """Return the extent of every float value of the main graph."""
    constants = {each.name for each in model.graph.initializer}
    names = list(
        dict.fromkeys(
            each.name
            for each in (*model.graph.input, *model.graph.output, *model.graph.value_info)
            if each.name not in constants
            and each.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16)
        )
    )
    try:
        return measure_extents(names, read(model, names))
    except EdgeDistillError:
        raise
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise EdgeDistillError(f"ONNX Runtime cannot run the model: {first_line(error)}.") from error


def _find_broken_outputs(converted: onnx.ModelProto, before: Mapping[str, Extent], read: Read) -> list[str]:
    """Return the outputs that are no longer finite."""
    outputs = copy.deepcopy(converted)
    del outputs.graph.value_info[:]
    seen = _measure(outputs, read)
    return [name for name, extent in seen.items() if extent.not_finite > before[name].not_finite]


def _first_broken(
    converted: onnx.ModelProto, half: Mapping[str, str], before: Mapping[str, Extent], read: Read
) -> str | None:
    """Return the float32 name of the first value that is no longer finite."""
    seen = _measure(onnx.shape_inference.infer_shapes(converted), read)
    for name in (name for node in converted.graph.node for name in node.output):
        known = before.get(half.get(name, name), Extent())
        if name in seen and seen[name].not_finite > known.not_finite:
            return half.get(name, str(name))
    return None


def _places_around(graph: onnx.GraphProto, value: str, known: Collection[int]) -> set[int]:
    """Return the nodes that make and read a value; when all are known, the nodes before all known ones."""
    around = {place for place, node in enumerate(graph.node) if value in (*node.input, *node.output)}
    if not around <= set(known):
        return around
    read = {name for place in known for name in graph.node[place].input}
    return {place for place, node in enumerate(graph.node) if read & set(node.output)}


def _record(graph: onnx.GraphProto, plan: Plan) -> Float16Record:
    faults = [(place, graph.node[place], *fault) for place, fault in sorted(plan.kept.items())]
    kept = [
        KeptNode(node=node_name(node, place), op_type=node.op_type, reason=reason, largest=largest)
        for place, node, reason, largest in faults
    ]
    return Float16Record(kept=tuple(kept), node_count=len(graph.node), float16_count=len(plan.moved))
