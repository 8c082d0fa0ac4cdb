from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.content import Versions, read_metadata, read_versions, read_weights

DTYPES = (np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.int64)


def saved(path: Path, tensors: list[TensorProto], **metadata: str) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])], tensors
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def test_the_metadata_is_what_onnx_wrote(tmp_path: Path) -> None:
    given = {"edgedistill.subtask": "Wörter, 数字", "empty": ""}
    assert read_metadata(saved(tmp_path / "m.onnx", [], **given)) == given
    assert read_metadata(saved(tmp_path / "none.onnx", [])) == {}


def test_the_versions_are_what_onnx_wrote(tmp_path: Path) -> None:
    model = onnx.load(saved(tmp_path / "m.onnx", []))
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("com.microsoft", 99), helper.make_opsetid("ai.onnx", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "m.onnx")
    assert read_versions(tmp_path / "m.onnx") == Versions(opset=17, ir_version=8)
    model.opset_import[1].domain = ""
    onnx.save(model, tmp_path / "m.onnx")
    assert read_versions(tmp_path / "m.onnx") == Versions(opset=17, ir_version=8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (300, 2)])
def test_raw_weights_are_what_onnx_reads(tmp_path: Path, dtype: type, shape: tuple[int, ...]) -> None:
    values: NDArray[Any] = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    path = saved(tmp_path / "m.onnx", [numpy_helper.from_array(values, "layer.weight")])
    [(name, read)] = read_weights(path)
    assert name == "layer.weight"
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(("kind", "dtype"), [(TensorProto.FLOAT, "f4"), (TensorProto.DOUBLE, "f8")])
def test_weights_in_fields_of_their_type_are_read_too(tmp_path: Path, kind: int, dtype: str) -> None:
    tensor = helper.make_tensor("w", kind, [2, 2], [1.5, -2.0, 3.25, 1e9])
    [(_, read)] = read_weights(saved(tmp_path / "m.onnx", [tensor]))
    np.testing.assert_array_equal(read, np.array([[1.5, -2.0], [3.25, 1e9]], dtype))


@pytest.mark.parametrize(
    ("kind", "dtype", "values"),
    [
        (TensorProto.INT8, np.int8, [-128, -1, 127]),
        (TensorProto.UINT8, np.uint8, [0, 200, 255]),
        (TensorProto.INT32, np.int32, [-(2**31), 5, 2**31 - 1]),
    ],
)
def test_whole_numbers_that_are_spelt_out_are_read(tmp_path: Path, kind: int, dtype: type, values: list[int]) -> None:
    tensor = helper.make_tensor("zero_point", kind, [3], values)
    assert tensor.int32_data
    [(_, read)] = read_weights(saved(tmp_path / "m.onnx", [tensor]))
    assert read.dtype == dtype
    assert read.tolist() == values


def test_kinds_that_numpy_lacks_are_passed_over(tmp_path: Path) -> None:
    tensors = [
        helper.make_tensor("bfloat", TensorProto.BFLOAT16, [2], [1.0, 2.0]),
        numpy_helper.from_array(np.ones(1, np.float32), "kept"),
    ]
    assert [name for name, _ in read_weights(saved(tmp_path / "m.onnx", tensors))] == ["kept"]


def test_a_weight_shorter_than_its_shape_is_named(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "short")
    tensor.dims[0] = 5
    with pytest.raises(EdgeDistillError, match=r"the weight short holds 4 numbers, but its shape \(5,\) needs 5"):
        list(read_weights(saved(tmp_path / "m.onnx", [tensor])))


@pytest.mark.parametrize("read", [read_metadata, lambda path: list(read_weights(path))])
def test_what_is_no_onnx_model_is_refused(tmp_path: Path, read: object) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 40)
    assert callable(read)
    with pytest.raises(EdgeDistillError, match=r"m\.onnx cannot be read as an ONNX model"):
        read(tmp_path / "m.onnx")
