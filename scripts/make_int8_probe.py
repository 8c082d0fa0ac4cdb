"""Write `int8_probe.onnx`: the smallest Q/DQ model whose answers show whether INT8 kernels saturate.

Every activation is 255 and every weight 127, the largest that 8 bits hold, so the sum of two products overflows 16
bits. Each output, a wide convolution, a pointwise one and a product, is the count of the products that it adds.

    python scripts/make_int8_probe.py deploy/edgedistill_deploy/runtimes/int8_probe.onnx
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, OUTPUTS, SIDE = 32, 16, 4
SHAPES = {
    "wide": (1, OUTPUTS, SIDE - 2, SIDE - 2),
    "pointwise": (1, OUTPUTS, SIDE, SIDE),
    "product": (SIDE * SIDE, OUTPUTS),
}


def make_probe() -> onnx.ModelProto:
    """Return the model: `image`, float (1, 32, 4, 4), all ones, to `wide`, `pointwise` and `product`."""
    weights = {
        "wide": np.full((OUTPUTS, CHANNELS, 3, 3), 127, np.int8),
        "pointwise": np.full((OUTPUTS, CHANNELS, 1, 1), 127, np.int8),
        "product": np.full((CHANNELS, OUTPUTS), 127, np.int8),
    }
    constants = {
        "activation_scale": np.float32(1 / 255),
        "weight_scale": np.float32(1 / 127),
        "unsigned_zero": np.uint8(0),
        # One each: ONNX Runtime 1.32 cannot rewrite weights that share their zero point.
        **{f"{name}_zero": np.int8(0) for name in weights},
        "rows": np.array([SIDE * SIDE, CHANNELS], np.int64),
        "wide_scale": np.float32(9 * CHANNELS / 255),
        "pointwise_scale": np.float32(CHANNELS / 255),
        "product_scale": np.float32(CHANNELS / 255),
        **{f"{name}_weight": value for name, value in weights.items()},
    }
    nodes = [*_rounded("image", "activation_scale", "read")]
    nodes.append(helper.make_node("Reshape", ["read_q", "rows"], ["rows_q"]))
    nodes.append(helper.make_node("DequantizeLinear", ["rows_q", "activation_scale", "unsigned_zero"], ["rows_read"]))
    for name in weights:
        nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}_weight", "weight_scale", f"{name}_zero"], [f"{name}_w"])
        )
        if name == "product":
            nodes.append(helper.make_node("MatMul", ["rows_read", "product_w"], ["product_sum"]))
        else:
            nodes.append(helper.make_node("Conv", ["read", f"{name}_w"], [f"{name}_sum"]))
        nodes += _rounded(f"{name}_sum", f"{name}_scale", name)
    graph = helper.make_graph(
        nodes,
        "int8_probe",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in SHAPES.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    # Old enough for every ONNX Runtime that knows per-tensor Q/DQ.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="edgedistill")
    model.ir_version = 7
    onnx.checker.check_model(model, full_check=True)
    return model


def _rounded(value: str, scale: str, name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("QuantizeLinear", [value, scale, "unsigned_zero"], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", scale, "unsigned_zero"], [name]),
    ]


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(make_probe().SerializeToString(deterministic=True))
