"""What an image costs, against the shapes that the onnx library infers and the figures that papers print."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.onnx_files.cost import Cost, read_cost
from edgedistill_deploy.onnx_files.graph import read_graph
from edgedistill_deploy.onnx_files.safety import require_affordable
from edgedistill_deploy.runtimes.opening import open_model
from reference.measured_models import write_model
from reference.onnx_corpus import Case, node_cases, sample

_LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# Multiply-adds of one image of 224 x 224 pixels, in millions, as the papers and their usual tables give them.
_PUBLISHED = {
    "alexnet": 655,
    "densenet121": 2834,
    "inception_v1": 1430,
    "resnet50": 4089,
    "squeezenet": 349,
    "vgg19": 19632,
}
CASES = 120


def cost_of(model: onnx.ModelProto, path: Path) -> Cost:
    path.write_bytes(model.SerializeToString())
    return read_cost(path)


def largest_inferred(model: onnx.ModelProto) -> int:
    """The largest value that a node makes, by onnx's own inference; free sizes count as 1."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    made = {name for node in model.graph.node for name in node.output}
    known = [value for value in (*inferred.value_info, *inferred.output) if value.name in made]
    sizes = [[dim.dim_value or 1 for dim in each.type.tensor_type.shape.dim] for each in known]
    return max((int(np.prod(size, dtype=object)) for size in sizes), default=0)


@pytest.mark.parametrize("name", _PUBLISHED)
def test_the_multiply_adds_of_known_networks_are_those_of_the_papers(name: str) -> None:
    (path,) = _LIGHT.glob(f"*{name}.onnx")
    assert read_cost(path).multiply_adds / 1e6 == pytest.approx(_PUBLISHED[name], rel=0.01)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return sample(node_cases(), CASES, seed=14)


# By number: the onnx package takes seconds to make its cases, which those who only collect the tests need not spend.
@pytest.mark.parametrize("number", range(CASES))
def test_no_value_is_taken_for_larger_than_it_is(number: int, cases: list[Case], tmp_path: Path) -> None:
    case = cases[number]
    assert cost_of(case.model, tmp_path / "m.onnx").largest_value <= largest_inferred(case.model), case.name


def product_chain(count: int, size: int, path: Path) -> Path:
    """Write a small file of products of large matrices that it makes itself."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["value0"])]
    nodes += [helper.make_node("MatMul", [f"value{i}", f"value{i}"], [f"value{i + 1}"]) for i in range(count)]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])],
        [helper.make_tensor_value_info(f"value{count}", TensorProto.FLOAT, [size, size])],
        initializer=[numpy_helper.from_array(np.array([size, size], np.int64), "shape")],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return path


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 20_000))
def test_a_chain_of_products_costs_what_arithmetic_says(
    tmp_path_factory: pytest.TempPathFactory, count: int, size: int
) -> None:
    path = product_chain(count, size, tmp_path_factory.mktemp("chain") / "m.onnx")
    assert read_cost(path) == Cost(multiply_adds=count * size**3, largest_value=size**2)


def test_what_takes_minutes_is_refused_with_the_flag_and_a_larger_limit_lets_it_pass(tmp_path: Path) -> None:
    path = product_chain(30, 12_000, tmp_path / "m.onnx")
    with pytest.raises(
        BundleError, match=r"needs 5\.2e\+13 multiply-adds for one image, too many for the 600 s .* --limit-s"
    ):
        require_affordable(path, 600)
    require_affordable(path, 6000)


def test_a_file_that_passed_is_judged_anew_when_it_changes(tmp_path: Path) -> None:
    path = write_model(tmp_path / "m.onnx")
    with open_model(path, precision="fp32"):
        pass
    product_chain(30, 12_000, path)
    for limit_s in (600.0, 60.0):
        with pytest.raises(BundleError, match=r"needs 5\.2e\+13 multiply-adds"):
            open_model(path, precision="fp32", limit_s=limit_s)
    write_model(path)
    with open_model(path, precision="fp32"):
        pass


def test_a_value_beyond_the_memory_of_a_device_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"makes a value of 2\.5e\+09 numbers out of one image"):
        require_affordable(product_chain(0, 50_000, tmp_path / "m.onnx"), 600)


def test_numbers_that_grow_without_end_do_not_keep_the_reader_busy(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", [f"n{i}", f"n{i}"], [f"n{i + 1}"]) for i in range(200)]
    graph = helper.make_graph(
        [*nodes, helper.make_node("ConstantOfShape", ["n200"], ["logits"])],
        "squares",
        [],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        initializer=[numpy_helper.from_array(np.array([3], np.int64), "n0")],
    )
    assert cost_of(helper.make_model(graph), tmp_path / "m.onnx") == Cost(multiply_adds=0, largest_value=1)
    assert len(read_graph(tmp_path / "m.onnx").nodes) == 201
