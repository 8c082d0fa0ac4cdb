from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedistill_calibration.graphs.preparation import fold_graph


def test_weights_that_lie_beside_a_model_are_folded_in(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    folded = fold_graph(tmp_path / "m.onnx", tmp_path / "folded.onnx")
    written = onnx.load(tmp_path / "folded.onnx", load_external_data=False)
    for each in (folded, written):
        (kept,) = each.graph.initializer
        assert not kept.external_data
        assert np.array_equal(numpy_helper.to_array(kept), weight)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folded.onnx", "m.onnx", "m.onnx.data"]
