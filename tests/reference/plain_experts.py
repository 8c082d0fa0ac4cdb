"""Bundles whose model is a few nodes that a test writes down, so that its answers have a closed form."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.images.preprocess import Preprocess

BLOCK = 4  # pixels: the side of the blocks that `red_blocks` averages


def plain_expert(
    folder: Path,
    size: tuple[int, int],
    nodes: Sequence[NodeProto],
    weights: Mapping[str, NDArray[Any]],
    class_names: Sequence[str] = ("one", "other"),
    *,
    batch: str | int = "N",
    precision: str = "fp32",
) -> Bundle:
    """Make a bundle of a model that gets "pixels", float32 (N, H, W, 3) from 0 to 255, and must give "logits"."""
    height, width = size
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT), *nodes],
        "plain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, height, width, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, len(class_names)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    bundle = create_bundle(
        folder,
        subtask={"name": "plain", "class_names": list(class_names), "class_indices": list(range(len(class_names)))},
        preprocess=Preprocess(size=size),
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )
    path = folder / f"model.{precision}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return bundle.with_file(f"model.{precision}", path)


def linear_expert(
    folder: Path,
    weights: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    batch: str | int = "N",
    last: str | None = None,
) -> Bundle:
    """Make a bundle whose logits are `weights` (C, H, W, 3) times the pixels plus `bias` (C,), then perhaps `last`, the
    name of an operator."""
    count, height, width, _ = weights.shape
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "towards", "bias"], ["sums" if last else "logits"]),
        *([helper.make_node(last, ["sums"], ["logits"])] if last else []),
    ]
    values = {"towards": weights.reshape(count, -1).T.copy(), "bias": bias}
    names = [f"class {place}" for place in range(count)]
    return plain_expert(folder, (height, width), nodes, values, names, batch=batch)


def red_blocks(folder: Path, size: tuple[int, int], *, batch: str | int = "N", precision: str = "fp32") -> Bundle:
    """Make a bundle that tells whether a red spot is anywhere: class "spot" has the redness of the reddest block.

    With precision int8 the redness goes through Q/DQ in steps of 2.
    """
    quantised = [
        helper.make_node("QuantizeLinear", ["redness", "step", "zero"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "step", "zero"], ["read"]),
    ]
    nodes = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["redness"]),
        *(quantised if precision == "int8" else [helper.make_node("Identity", ["redness"], ["read"])]),
        helper.make_node("AveragePool", ["read"], ["blocks"], kernel_shape=[BLOCK, BLOCK], strides=[1, 1]),
        helper.make_node("GlobalMaxPool", ["blocks"], ["reddest"]),
        helper.make_node("Flatten", ["reddest"], ["found"]),
        helper.make_node("Gemm", ["found", "towards", "bias"], ["logits"]),
    ]
    weights: dict[str, NDArray[Any]] = {
        "kernel": np.array([1, -0.5, -0.5], np.float32).reshape(1, 3, 1, 1),
        "step": np.array(2, np.float32),
        "zero": np.array(128, np.uint8),
        "towards": np.array([[0.1, 0]], np.float32),
        "bias": np.array([0, 3], np.float32),
    }
    if precision != "int8":
        del weights["step"], weights["zero"]
    return plain_expert(folder, size, nodes, weights, ("spot", "nothing"), batch=batch, precision=precision)


def spotted(size: tuple[int, int], middle: tuple[int, int], side: int = 5, seed: int = 0) -> NDArray[np.uint8]:
    """Return a grey, noisy picture (H, W, 3) with a red square around `middle` (row, column)."""
    random = np.random.default_rng(seed)
    pixels = random.integers(90, 150, (*size, 1), dtype=np.uint8).repeat(3, axis=2)
    top, left = (place - side // 2 for place in middle)
    pixels[max(0, top) : top + side, max(0, left) : left + side] = (230, 20, 20)
    return pixels
