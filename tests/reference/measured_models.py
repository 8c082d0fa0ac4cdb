"""Tiny classifiers as ONNX files whose answers are known in advance, sound ones and ones with a defect.

A sound model answers with ten times the mean of each colour channel, so an image's class is its brightest channel: red
0, green 1, blue 2. `images_of` makes images of wanted classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE = 4
CLASS_NAMES = ("red", "green", "blue")

_Nodes = list[onnx.NodeProto]


def images_of(classes: Sequence[int], seed: int = 0) -> NDArray[np.uint8]:
    """Return distinct uint8 images (n, 4, 4, 3), each brightest in the channel of its class."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 100, (len(classes), SIZE, SIZE, 3))
    for image, channel in zip(images, classes, strict=True):
        image[..., channel] += 120
    return images.astype(np.uint8)


def logits_of_images(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a sound model answers, computed without ONNX."""
    means: NDArray[np.float64] = images.astype(np.float64).mean(axis=(1, 2))
    return (10 * means / 255).astype(np.float32)


# Each defect turns the tensor "sound" (N, 3) into "logits"; "brightness" is (N, 1).
DEFECTS: dict[str, _Nodes] = {
    "none": [helper.make_node("Identity", ["sound"], ["logits"])],
    "depends_on_batch": [
        helper.make_node("ReduceMean", ["sound"], ["batch_mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["sound", "batch_mean"], ["logits"]),
    ],
    "depends_on_position": [
        helper.make_node("CumSum", ["sound", "axis_0"], ["running"]),
        helper.make_node("Mul", ["running", "tenth"], ["logits"]),
    ],
    "random": [
        helper.make_node("RandomNormalLike", ["sound"], ["noise"], dtype=TensorProto.FLOAT),
        helper.make_node("Add", ["sound", "noise"], ["logits"]),
    ],
    "wrong_for_odd_batches": [
        helper.make_node("Shape", ["sound"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis_0"], ["count"], axis=0),
        helper.make_node("Mod", ["count", "two"], ["odd"]),
        helper.make_node("Cast", ["odd"], ["odd_float"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["sound", "odd_float"], ["logits"]),
    ],
    "four_rows_only": [helper.make_node("Add", ["sound", "four_rows"], ["logits"])],
    "not_finite_when_dark": [
        helper.make_node("Sub", ["brightness", "threshold"], ["margin"]),
        helper.make_node("Sqrt", ["margin"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["sound", "nothing"], ["logits"]),
    ],
    "shifted": [helper.make_node("Add", ["sound", "ramp"], ["logits"])],
    "classes_interchanged": [helper.make_node("Gather", ["sound", "other_order"], ["logits"], axis=1)],
    "no_logits": [helper.make_node("Identity", ["sound"], ["scores"])],
    "two_classes": [helper.make_node("Slice", ["sound", "start", "end", "class_axis"], ["logits"])],
}

_CONSTANTS = {
    "scale": np.float32(10 / 255),
    "one": np.float32(1),
    "zero_point": np.uint8(0),
    "axis_0": np.int64(0),
    "two": np.int64(2),
    "tenth": np.float32(0.1),
    "zero": np.float32(0),
    "threshold": np.float32(0.3),
    "four_rows": np.zeros((4, 3), dtype=np.float32),
    "ramp": np.array([0.0, 0.5, 1.0], dtype=np.float32),
    "other_order": np.array([1, 0, 2]),
    "start": np.array([0]),
    "end": np.array([2]),
    "class_axis": np.array([1]),
}


# Each precision turns the pixels as they were read into "pixels", without rounding any.
_PRECISIONS: dict[str, _Nodes] = {
    "fp32": [helper.make_node("Identity", ["read"], ["pixels"])],
    "fp16": [
        helper.make_node("Cast", ["read"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["pixels"], to=TensorProto.FLOAT),
    ],
    "int8": [
        helper.make_node("QuantizeLinear", ["read", "one", "zero_point"], ["quantised"]),
        helper.make_node("DequantizeLinear", ["quantised", "one", "zero_point"], ["pixels"]),
    ],
}


def write_model(path: Path, defect: str = "none", precision: str = "fp32") -> Path:
    """Write a model with input `image` uint8 (N, 4, 4, 3) and output `logits` float32 (N, 3), or what its defect makes
    of it."""
    nodes = [
        helper.make_node("Cast", ["image"], ["read"], to=TensorProto.FLOAT),
        *_PRECISIONS[precision],
        helper.make_node("ReduceMean", ["pixels"], ["channels"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["channels", "scale"], ["sound"]),
        helper.make_node("ReduceMean", ["sound"], ["ten_brightness"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["ten_brightness", "tenth"], ["brightness"]),
        *DEFECTS[defect],
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, ["M", None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in _CONSTANTS.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path
