"""A model whose file does not tell how long it takes: sums over images, then many functions of many numbers."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CLASSES = 3


def write_slow_model(path: Path, nodes: int = 4000, side: int = 1000) -> Path:
    """Write the model: `image`, uint8 (N, H, W, 3), to `logits`, float32 (N, 3). A node takes a millisecond or more."""
    steps = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[0, 1], keepdims=1),
        helper.make_node("Expand", ["one", "shape"], ["value0"]),
        *(helper.make_node("Erf", [f"value{i}"], [f"value{i + 1}"]) for i in range(nodes)),
        helper.make_node("ReduceMean", [f"value{nodes}"], ["total"], axes=[0, 1], keepdims=1),
        helper.make_node("Add", ["mean", "total"], ["logits"]),
    ]
    graph = helper.make_graph(
        steps,
        "slow",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        initializer=[numpy_helper.from_array(np.array([side, side], np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path
