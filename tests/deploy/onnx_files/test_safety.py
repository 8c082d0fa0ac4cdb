from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.onnx_files.safety import read_claims, require_bounded, require_listed_data
from edgedistill_deploy.runtimes.opening import open_model
from reference.measured_models import write_model


def refuse_unlisted(path: Path, *listed: str) -> None:
    require_listed_data(read_claims(path), listed)


def _external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(3, dtype=np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../secret"
    return tensor


def _named_without_location() -> TensorProto:
    tensor = _external()
    tensor.ClearField("data_location")
    return tensor


def _in_initializer(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.initializer.append(tensor)


def _in_constant(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_tensor_list(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.node.append(helper.make_node("Other", [], ["c"], domain="x", tensors=[tensor]))


def _in_sparse(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    graph.sparse_initializer.add().values.CopyFrom(tensor)


def _in_subgraph(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    graph.node.append(helper.make_node("If", ["condition"], ["c"], then_branch=branch, else_branch=branch))


_PLACES = [_in_initializer, _in_constant, _in_tensor_list, _in_sparse, _in_subgraph]


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("tensor", [_external(), _named_without_location()])
def test_weights_in_another_file_are_found_wherever_they_are_named(
    tmp_path: Path, place: Callable[[onnx.GraphProto, TensorProto], None], tensor: TensorProto
) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    place(model.graph, tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"m\.onnx keeps weights in another file, .* export the model as a single"):
        refuse_unlisted(path)


def test_a_listed_file_may_hold_weights_and_every_other_is_refused_by_name(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    model = onnx.load(path)
    for location in ("m.onnx.data", "second.data"):
        tensor = _external()
        tensor.name, tensor.external_data[0].value = location, location
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    refuse_unlisted(path, "m.onnx.data", "second.data")
    with pytest.raises(BundleError, match=r"another file, 'second\.data', which .* no bundle lists beside it"):
        refuse_unlisted(path, "m.onnx.data")


def test_a_tensor_that_names_two_files_or_none_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    twice, none = _external(), _external()
    twice.external_data[0].value = "listed"
    entry = twice.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    none.ClearField("external_data")
    for tensor, named in ((twice, "'/etc/passwd'"), (none, "''")):
        model = onnx.load(path, load_external_data=False)
        del model.graph.initializer[:]
        model.graph.initializer.append(tensor)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(BundleError, match=f"another file, {named}, which"):
            refuse_unlisted(path, "listed")


def test_a_listed_name_repeated_hides_no_other(tmp_path: Path) -> None:
    listed, other = _external(), _external()
    listed.external_data[0].value = "listed"
    model = onnx.load(write_model(tmp_path / "m.onnx"))
    model.graph.initializer.extend([*[listed] * 10_001, other])
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"another file, '\.\./secret', which"):
        refuse_unlisted(tmp_path / "m.onnx", "listed")


def test_a_tensor_that_says_its_data_is_inside_is_held_to_it(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, raw_data=bytes(8), dims=[10**6])
    tensor.data_location = TensorProto.DEFAULT
    model = onnx.load(path)
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=r"holds a tensor that claims 1000000 values in \d+ bytes"):
        require_bounded(read_claims(path))


def test_functions_and_training_graphs_are_searched_too(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["c"], value=_external())
    in_function = onnx.load(write_model(tmp_path / "m.onnx"))
    in_function.functions.append(helper.make_function("x", "f", [], ["c"], [node], []))
    in_training = onnx.load(tmp_path / "m.onnx")
    in_training.training_info.add().algorithm.node.append(node)
    for model in (in_function, in_training):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(BundleError, match="keeps weights in another file"):
            refuse_unlisted(tmp_path / "m.onnx")


def test_a_file_saved_with_external_data_is_refused_and_one_without_runs(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    with open_model(path, precision="fp32"):
        pass
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights")
    with pytest.raises(BundleError, match="keeps weights in another file"):
        open_model(path, precision="fp32")


def test_every_model_that_ships_with_onnx_is_let_through() -> None:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data"
    models = [path for path in sorted(folder.rglob("*.onnx")) if path.stat().st_size]
    if not models:
        pytest.skip("this onnx package ships no models")
    for path in models:
        refuse_unlisted(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"cannot be read as an ONNX model"),
        (b"not a model", r"cannot be read as an ONNX model: wire type 6 at byte 0; rebuild or restore the file"),
        (b"\x3a\x7f", r"a value at byte 2 runs beyond its message"),
        (b"\x3a" + b"\xff" * 12, r"a number of more than ten bytes"),
        (b"\x3a\xff", r"cannot be read as an ONNX model"),
        (b"\x3b\x3c", r"wire type 3 at byte 0"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(EdgeDistillError, match=message):
        refuse_unlisted(tmp_path / "m.onnx")


def test_graphs_within_graphs_without_end_are_refused(tmp_path: Path) -> None:
    def field(number: int, value: bytes) -> bytes:
        size, length = len(value), b""
        while size > 0x7F:
            length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + value

    graph = b""
    for _ in range(2000):
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "m.onnx").write_bytes(field(7, graph))
    with pytest.raises(EdgeDistillError, match="cannot be read as an ONNX model: maximum recursion depth"):
        refuse_unlisted(tmp_path / "m.onnx")


@settings(max_examples=100, deadline=None)
@given(place=st.floats(0, 1), value=st.integers(0, 255), cut=st.floats(0, 1))
def test_damage_is_let_through_to_the_runtime_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: float, value: int, cut: float
) -> None:
    path = write_model(tmp_path_factory.mktemp("damage") / "m.onnx")
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = value
    path.write_bytes(data[: int(cut * len(data)) + 1])
    try:
        refuse_unlisted(path)
    except EdgeDistillError:
        return
    assert not any(tensor.external_data for tensor in _parsed(path).graph.initializer)


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path, load_external_data=False)
    except Exception:  # noqa: BLE001  # what protobuf refuses, no runtime will load either
        return onnx.ModelProto()
