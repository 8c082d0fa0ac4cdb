"""The graph read and extended by its bytes alone, against the onnx library."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.onnx_files.graph import read_graph, write_with_outputs
from edgedistill_deploy.runtimes.opening import open_model
from reference.fitted_networks import shape_images, write_network
from reference.measured_models import write_model

# The least a file can say and still be a protocol buffer: a graph whose one node has a name that is no text.
_NODE_WITHOUT_TEXT = bytes([0x3A, 5, 0x0A, 3, 0x1A, 1, 0xFF])


def test_nodes_and_values_are_those_the_onnx_library_reads(tmp_path: Path) -> None:
    path = write_network(tmp_path / "network.onnx")
    graph, wanted = read_graph(path), onnx.load(path).graph
    assert [(n.name, n.operator, n.inputs, n.outputs) for n in graph.nodes] == [
        (n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in wanted.node
    ]
    assert graph.inputs == ("image",)
    assert graph.outputs == ("logits",)
    assert graph.initializers == {each.name for each in wanted.initializer}
    assert graph.makers["logits"].name == "head"


def test_a_branch_reads_the_values_it_takes_from_outside(tmp_path: Path) -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["hidden"], [f"{name}_out"])], name, [], [made])

    chosen = helper.make_node(
        "If", ["flag"], ["logits"], then_branch=branch("a", "Abs"), else_branch=branch("b", "Neg")
    )
    model = onnx.load(write_model(tmp_path / "model.onnx"))
    model.graph.node.append(chosen)
    onnx.save(model, tmp_path / "branches.onnx")
    assert read_graph(tmp_path / "branches.onnx").nodes[-1].inputs == ("flag", "hidden", "hidden")


def test_inner_values_become_outputs_and_the_rest_stays(tmp_path: Path) -> None:
    source = write_network(tmp_path / "network.onnx")
    path = tmp_path / "opened.onnx"
    write_with_outputs(source, path, ["stem", "relu_5"])
    onnx.checker.check_model(str(source), full_check=True)
    images = shape_images(1, seed=3)[0]
    with open_model(path, precision="fp32", threads=1) as session:
        outputs = session.run({"image": images})
    assert list(outputs) == ["logits", "stem", "relu_5"]

    model = onnx.load(source)
    model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in ("stem", "relu_5")])
    native = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for given, wanted in zip(outputs.values(), native.run(None, {"image": images}), strict=True):
        np.testing.assert_array_equal(given, wanted)


def test_a_long_name_survives(tmp_path: Path) -> None:
    model = onnx.load(write_model(tmp_path / "model.onnx"))
    name = "wert_ü" * 50
    for node in model.graph.node:
        node.input[:] = [name if value == "sound" else value for value in node.input]
        node.output[:] = [name if value == "sound" else value for value in node.output]
    onnx.save(model, tmp_path / "long.onnx")
    write_with_outputs(tmp_path / "long.onnx", tmp_path / "opened.onnx", [name])
    assert read_graph(tmp_path / "opened.onnx").outputs == ("logits", name)
    assert [each.name for each in onnx.load(tmp_path / "opened.onnx").graph.output] == ["logits", name]


def test_a_graph_computed_as_written_gives_the_same(tmp_path: Path) -> None:
    path = write_network(tmp_path / "network.onnx")
    images = shape_images(2, seed=4)[0]
    with (
        open_model(path, precision="fp32", threads=1) as plain,
        open_model(path, precision="fp32", threads=1, optimised=False) as written,
    ):
        wanted, given = plain.run({"image": images})["logits"], written.run({"image": images})["logits"]
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(_NODE_WITHOUT_TEXT)
    with pytest.raises(EdgeDistillError, match=r"broken.onnx cannot be read as an ONNX model: .*utf-8"):
        read_graph(path)
