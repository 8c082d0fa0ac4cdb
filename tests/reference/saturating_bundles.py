"""Bright and dark images, and a classifier whose INT8 file answers "dark" to everything where kernels saturate.

Its logit for "bright" adds 48 products of large values, whose pairs do not fit 16 bits; that for "dark" has smaller
weights, whose pairs do. Computed exactly, the INT8 file answers as the float one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.bundle.reference import Reference, write_golden, write_reference
from edgedistill_deploy.images.preprocess import Preprocess

CLASS_NAMES = ("bright", "dark")
SIZE = 4
_WEIGHTS = np.repeat(np.array([[127, 60]], np.int8), SIZE * SIZE * 3, axis=0)
_MIDDLE = 128
_OFFSET = np.array([0.0, SIZE * SIZE * 3 * _MIDDLE * (127 - 60) / 127], np.float32)


def images_of(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return uint8 images (n, 4, 4, 3), bright and dark in turn, and their labels (n,)."""
    labels = np.arange(count) % 2
    noise = np.random.default_rng(seed).integers(-30, 30, (count, SIZE, SIZE, 3))
    images = np.where(labels == 0, 200, 60)[:, None, None, None] + noise
    return images.astype(np.uint8), labels.astype(np.int64)


def saturating_bundle(folder: Path, count: int = 400) -> Bundle:
    """Make a bundle with the float and the INT8 file, judged on the answers of the float one."""
    images, labels = images_of(count)
    bundle = create_bundle(
        folder,
        subtask={"name": "brightness", "class_names": list(CLASS_NAMES), "class_indices": [0, 1]},
        preprocess=Preprocess(size=(SIZE, SIZE)),
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )
    for precision in ("fp32", "int8"):
        path = folder / f"model.{precision}.onnx"
        onnx.save(_model(quantised=precision == "int8"), path)
        bundle = bundle.with_file(f"model.{precision}", path)
    pixels = images.reshape(count, -1).astype(np.float32)
    logits = (pixels @ (_WEIGHTS / np.float32(127)) + _OFFSET).astype(np.float32)
    reference = Reference(
        logits=logits,
        labels=labels,
        digests=np.array([f"{row:064x}" for row in range(count)]),
        images=images,
        image_index=np.arange(count),
    )
    write_reference(folder / "reference.npz", reference)
    write_golden(folder / "golden.npz", images[:8], logits[:8])
    bundle = bundle.with_file("reference", folder / "reference.npz")
    return bundle.with_file("golden", folder / "golden.npz")


def _model(*, quantised: bool) -> onnx.ModelProto:
    constants: dict[str, Any] = {"offset": _OFFSET}
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["pixels"], ["flat"]),
    ]
    if quantised:
        constants |= {
            "one": np.float32(1),
            "zero": np.uint8(0),
            "weight_scale": np.float32(1 / 127),
            "weight_zero": np.int8(0),
            "weight": _WEIGHTS,
        }
        nodes += [
            helper.make_node("QuantizeLinear", ["flat", "one", "zero"], ["flat_q"]),
            helper.make_node("DequantizeLinear", ["flat_q", "one", "zero"], ["read"]),
            helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["weights"]),
        ]
    else:
        constants["weights"] = _WEIGHTS / np.float32(127)
        nodes.append(helper.make_node("Identity", ["flat"], ["read"]))
    nodes.append(helper.make_node("MatMul", ["read", "weights"], ["sums"]))
    if quantised:
        constants["sum_scale"] = np.float32(SIZE * SIZE * 3)
        nodes += [
            helper.make_node("QuantizeLinear", ["sums", "sum_scale", "zero"], ["sums_q"]),
            helper.make_node("DequantizeLinear", ["sums_q", "sum_scale", "zero"], ["rounded"]),
        ]
    nodes.append(helper.make_node("Add", ["rounded" if quantised else "sums", "offset"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
