"""Small graphs of pixels, brought to FP16 and run: in ONNX Runtime, and in numpy's own float16."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgedistill_calibration.float16._cast import cast_graph, lift_constants
from edgedistill_calibration.float16._types import movable, opset_versions, value_types
from edgedistill_calibration.float16.conversion import Float16Record, write_float16

Images = NDArray[np.uint8]
PIXELS = np.random.default_rng(0).integers(1, 256, (20, 4, 4, 3), dtype=np.uint8)


LOGITS = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", "C", "H", "W"])


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), [output], name=output, **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Any],
    *,
    outputs: Sequence[onnx.ValueInfoProto] = (),
    opset: int = 20,
) -> onnx.ModelProto:
    """Pixels to floats (N, 3, 4, 4) called `pixels`, then these nodes."""
    before = [
        node("Transpose", ["image"], "moved", perm=[0, 3, 1, 2]),
        node("Cast", ["moved"], "pixels", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        [*before, *nodes],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        list(outputs) or [LOGITS],
        [
            numpy_helper.from_array(np.asarray(value, np.float32), name)
            if not isinstance(value, np.ndarray)
            else numpy_helper.from_array(value, name)
            for name, value in constants.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    helper.set_model_props(model, {"edgedistill.subtask": "wading birds", "note": "ü"})
    return model


def groups_of(images: Images) -> Callable[[int], Iterable[Images]]:
    return lambda count: (images[start : start + count] for start in range(0, len(images), count))


def run(model: onnx.ModelProto | Path, images: Images = PIXELS) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": images}))


def convert(model: onnx.ModelProto, folder: Path, images: Images = PIXELS) -> tuple[onnx.ModelProto, Float16Record]:
    onnx.save(model, folder / "source.onnx")
    record = write_float16(folder / "source.onnx", folder / "half.onnx", groups_of(images))
    onnx.checker.check_model(str(folder / "half.onnx"), full_check=True)
    return onnx.load(folder / "half.onnx"), record


def convert_blindly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Everything that has a float16 form, whatever its values."""
    blind = onnx.ModelProto()
    blind.CopyFrom(model)
    lift_constants(blind)
    types, opsets = value_types(blind), opset_versions(blind)
    found = {place: movable(each, types, opsets) for place, each in enumerate(blind.graph.node)}
    cast_graph(blind, {place: how for place, how in found.items() if not isinstance(how, str) and how.outputs})
    return blind


def run_strictly(model: onnx.ModelProto) -> NDArray[Any]:
    """Run in numpy, which rounds after every float16 node; ONNX Runtime skips rounding between two nodes on a CPU."""
    with np.errstate(all="ignore"):
        (logits,) = ReferenceEvaluator(model).run(["logits"], {"image": PIXELS})
    return np.asarray(logits)


def decibels(wanted: NDArray[Any], given_values: NDArray[Any]) -> float:
    noise = float(np.sum((wanted - given_values.astype(np.float64)) ** 2))
    power = float(np.sum(wanted.astype(np.float64) ** 2))
    return 10 * math.log10(power / noise) if noise else math.inf
