"""FP16 graphs in the real runtime: what float16 cannot hold stays in float32, and the answers stay."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgedistill_calibration.float16._types import value_types
from edgedistill_calibration.float16.conversion import to_float16, write_float16
from edgedistill_deploy.errors import EdgeDistillError
from reference.half_graphs import (
    LOGITS,
    PIXELS,
    Images,
    convert,
    convert_blindly,
    decibels,
    groups_of,
    model_of,
    node,
    run,
    run_strictly,
)

PLANTED_LARGE = model_of(
    [
        node("Conv", ["pixels", "weight"], "before"),
        node("Mul", ["before", "up"], "large"),
        node("Relu", ["large"], "larger"),
        node("Mul", ["larger", "down"], "small"),
        node("Conv", ["small", "weight"], "logits"),
    ],
    {
        "weight": np.random.default_rng(1).normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32),
        "up": np.full((1, 3, 1, 1), 1e4, np.float32),
        "down": np.full((1, 3, 1, 1), 1e-4, np.float32),
    },
)


def test_what_overflows_stays_in_float32_and_blind_conversion_is_infinite(tmp_path: Path) -> None:
    (wanted,) = run(PLANTED_LARGE)
    half, record = convert(PLANTED_LARGE, tmp_path)
    assert [each.node for each in record.kept] == ["large", "larger", "small"]
    largest = run(helped(PLANTED_LARGE, "large"))[-1]
    for each in record.kept[:2]:
        assert "reaches" in each.reason
        assert "float16 ends at 65504" in each.reason
        assert each.largest == pytest.approx(np.abs(largest).max(), rel=1e-6)
    assert record.float16_count == 3
    assert record.node_count == 7
    assert decibels(wanted, run(half)[0]) > 55
    assert decibels(wanted, run_strictly(half)) > 55
    assert not np.isfinite(run_strictly(convert_blindly(PLANTED_LARGE))).all()


def helped(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the model with an inner value as a further output."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return opened


def test_values_between_two_float32_nodes_never_pass_through_float16(tmp_path: Path) -> None:
    half, _ = convert(PLANTED_LARGE, tmp_path)
    makers = {name: each for each in half.graph.node for name in each.output}
    small = next(each for each in half.graph.node if each.name == "small")
    assert makers[small.input[0]].op_type == "Relu"
    assert makers[makers[small.input[0]].input[0]].op_type == "Mul"


def test_what_would_vanish_stays_in_float32_and_blind_conversion_is_zero(tmp_path: Path) -> None:
    tiny = {f"down_{each}": 1e-4 for each in range(3)} | {f"up_{each}": 1e4 for each in range(3)}
    chain = ["pixels", *(f"value_{each}" for each in range(5)), "logits"]
    steps = [
        node("Mul", [before, name], after)
        for (before, after), name in zip(itertools.pairwise(chain), tiny, strict=True)
    ]
    model = model_of(steps, tiny)
    (wanted,) = run(model)
    half, record = convert(model, tmp_path)
    assert decibels(wanted, run_strictly(half)) > 50
    assert any("on average, and float16 loses digits below 6e-05" in each.reason for each in record.kept)
    assert decibels(wanted, run_strictly(convert_blindly(model))) < 1


def test_a_constant_that_float16_cannot_hold_keeps_its_node(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Sub", ["pixels", "pixels"], "zero"),
            node("Add", ["zero", "epsilon"], "positive"),
            node("Div", ["pixels", "positive"], "quotient"),
            node("Mul", ["quotient", "epsilon"], "logits"),
        ],
        {"epsilon": 1e-8},
    )
    half, record = convert(model, tmp_path)
    reasons = {each.node: each.reason for each in record.kept}
    assert "epsilon is so small, at most 1e-08, that float16 changes it by 100%" in reasons["positive"]
    np.testing.assert_allclose(run(half)[0], run(model)[0], rtol=2e-3)
    assert np.isnan(run_strictly(convert_blindly(model))).any()


def test_a_weight_beyond_float16_keeps_its_node(tmp_path: Path) -> None:
    model = model_of(
        [node("Div", ["pixels", "huge"], "small"), node("Mul", ["small", "more"], "logits")], {"huge": 1e5, "more": 1e3}
    )
    _, record = convert(model, tmp_path)
    assert [(each.node, each.reason) for each in record.kept] == [
        ("small", "huge reaches 1e+05, and float16 ends at 65504")
    ]


def test_a_constant_read_in_both_precisions_has_both_types(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Mul", ["pixels", "factor"], "one"),
            node("Mul", ["one", "large"], "two"),
            node("Mul", ["two", "factor"], "three"),
            node("Div", ["three", "large"], "logits"),
        ],
        {"factor": 1 / 3, "large": 1e6},
    )
    half, _ = convert(model, tmp_path)
    kinds = {each.name: each.data_type for each in half.graph.initializer}
    assert kinds["factor"] == TensorProto.FLOAT
    assert kinds["factor_float16"] == TensorProto.FLOAT16
    np.testing.assert_allclose(run(half)[0], run(model)[0], rtol=2e-3)


def test_interface_metadata_opset_and_ir_version_survive(tmp_path: Path) -> None:
    half, _ = convert(PLANTED_LARGE, tmp_path)
    source = onnx.load(tmp_path / "source.onnx")
    assert list(half.graph.input) == list(source.graph.input)
    assert list(half.graph.output) == list(source.graph.output)
    assert list(half.metadata_props) == list(source.metadata_props)
    assert list(half.opset_import) == list(source.opset_import)
    assert half.ir_version == source.ir_version


def test_what_goes_on_from_the_logits_is_computed_from_what_is_given_out(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Conv", ["pixels", "weight"], "logits"),
            node("ReduceMax", ["logits"], "score", keepdims=0),
            node("Greater", ["score", "threshold"], "in_domain"),
        ],
        {"weight": np.full((3, 3, 1, 1), 0.37, np.float32), "threshold": 100.0},
        outputs=[LOGITS, helper.make_tensor_value_info("in_domain", TensorProto.BOOL, [])],
    )
    half, record = convert(model, tmp_path)
    assert {each.node: each.reason for each in record.kept} == {
        "score": "goes on from the output logits",
        "in_domain": "goes on from the output logits",
    }
    logits, in_domain = run(half)
    assert in_domain == (logits.max() > 100.0)


def test_sums_of_squares_stay_whole_up_to_the_division(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Mul", ["pixels", "third"], "x"),
            node("ReduceMean", ["x", "axes"], "mean"),
            node("Sub", ["x", "mean"], "centred"),
            node("Pow", ["centred", "two"], "squares"),
            node("ReduceMean", ["squares", "axes"], "variance"),
            node("Add", ["variance", "epsilon"], "safe"),
            node("Sqrt", ["safe"], "deviation"),
            node("Div", ["centred", "deviation"], "logits"),
        ],
        {"third": 0.03, "axes": np.array([1], np.int64), "two": 2.0, "epsilon": 1e-3},
    )
    half, record = convert(model, tmp_path)
    kept = {each.node: each.reason for each in record.kept}
    assert kept == dict.fromkeys(["squares", "variance", "safe", "deviation"], "adds up squares")
    assert decibels(run(model)[0], run(half)[0]) > 50


def test_a_mean_whose_sum_overflows_stays_in_float32(tmp_path: Path) -> None:
    images = np.full((2, 24, 24, 3), 255, np.uint8)
    model = model_of([node("GlobalAveragePool", ["pixels"], "logits")], {})
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "W"
    half, record = convert(model, tmp_path, images)
    assert [(each.node, each.largest) for each in record.kept] == [("logits", 255.0 * 24 * 24)]
    assert "adds up to 1.47e+05 before it divides" in record.kept[0].reason
    np.testing.assert_array_equal(run(half, images)[0], 255)


def test_what_is_not_finite_in_float16_alone_is_found_by_running_it(tmp_path: Path) -> None:
    model = model_of(
        [
            node("Mul", ["pixels", "zero"], "nothing"),
            node("Add", ["nothing", "above"], "a"),
            node("Sub", ["a", "one"], "difference"),
            node("Div", ["pixels", "difference"], "logits"),
        ],
        {"zero": 0.0, "above": 1.0003, "one": 1.0},
    )
    images = np.minimum(PIXELS, 3)
    assert not np.isfinite(run(convert_blindly(model), images)[0]).all()
    half, record = convert(model, tmp_path, images)
    np.testing.assert_allclose(run(half, images)[0], run(model, images)[0], rtol=2e-3)
    reasons = {each.node: each.reason for each in record.kept}
    assert reasons["logits"] == "logits is not finite when it is computed in float16"


def test_every_image_is_measured_and_few_are_held(tmp_path: Path) -> None:
    images = np.ones((40, 4, 4, 3), np.uint8)
    images[-1] = 255
    onnx.save(
        model_of(
            [node("Mul", ["pixels", "up"], "large"), node("Mul", ["large", "down"], "logits")],
            {"up": 1000.0, "down": 1e-3},
        ),
        tmp_path / "source.onnx",
    )
    sizes = []

    def groups(count: int) -> Iterable[Images]:
        for group in groups_of(images)(count):
            sizes.append(len(group))
            yield group

    record = write_float16(tmp_path / "source.onnx", tmp_path / "half.onnx", groups)
    assert record.kept[0].largest == 255e3
    assert max(sizes) <= 16
    assert sum(sizes) == 2 * len(images)


def test_subgraphs_find_what_they_read(tmp_path: Path) -> None:
    def branch(name: str, kind: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node(kind, ["x", "factor"], name)], name, [], [result])

    model = model_of(
        [
            node("Mul", ["pixels", "factor"], "x"),
            node("ReduceMax", ["x"], "top", keepdims=0),
            node("Greater", ["top", "limit"], "bright"),
            node("If", ["bright"], "chosen", then_branch=branch("then", "Mul"), else_branch=branch("else", "Add")),
            node("Relu", ["chosen"], "logits"),
        ],
        {"factor": 0.25, "limit": 10.0},
    )
    half, record = convert(model, tmp_path)
    assert [(each.op_type, each.reason) for each in record.kept] == [("If", "runs a subgraph")]
    assert decibels(run(model)[0], run(half)[0]) > 60


def test_names_that_are_taken_are_avoided(tmp_path: Path) -> None:
    model = model_of([node("Relu", ["pixels"], "pixels_float16"), node("Relu", ["pixels_float16"], "logits")], {})
    half, _ = convert(model, tmp_path)
    np.testing.assert_array_equal(run(half)[0], run(model)[0])


def test_without_images_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(EdgeDistillError, match="There are no images to measure ranges on"):
        convert(PLANTED_LARGE, tmp_path, PIXELS[:0])
    assert not (tmp_path / "half.onnx").exists()


def test_a_model_that_the_runtime_does_not_run_is_refused(tmp_path: Path) -> None:
    onnx.save(model_of([node("Conv", ["pixels", "weight"], "logits")], {"weight": 1.0}), tmp_path / "source.onnx")
    with pytest.raises(EdgeDistillError, match="ONNX Runtime cannot run the model"):
        write_float16(tmp_path / "source.onnx", tmp_path / "half.onnx", groups_of(PIXELS))


def test_int8_needs_an_opset_with_float16_scales(tmp_path: Path) -> None:
    model = model_of(
        [
            node("QuantizeLinear", ["pixels", "scale", "zero"], "stored"),
            node("DequantizeLinear", ["stored", "scale", "zero"], "logits"),
        ],
        {"scale": 2.0, "zero": np.array(0, np.int8)},
        opset=18,
    )
    with pytest.raises(EdgeDistillError, match=r"has opset 18, and INT8 \+ FP16 needs 19"):
        convert(model, tmp_path)


def test_a_runtime_that_gives_nothing_finite_in_float16_is_given_up() -> None:
    def read(model: onnx.ModelProto, names: Sequence[str]) -> Iterable[list[NDArray[Any]]]:
        casts = [each for each in model.graph.node if each.op_type == "Cast"]
        broken = len(casts) > 1
        return [[np.full(3, np.nan if broken else 1.0, np.float32) for _ in names]]

    steps = [node("Relu", ["pixels" if not place else f"v{place - 1}"], f"v{place}") for place in range(9)]
    model = model_of([*steps, node("Relu", ["v8"], "logits")], {})
    with pytest.raises(EdgeDistillError, match="not finite in FP16, whichever nodes stay in float32"):
        to_float16(model, read)


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Sums, products and ReLUs of positive values, whose sizes wander over ten powers of ten."""
    constants: dict[str, Any] = {}
    nodes, values = [], ["pixels"]
    for place in range(draw(st.integers(1, 7))):
        name, source = f"v{place}", draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["Mul", "Add", "Relu", "Conv", "join", "Sum"]))
        if kind in ("Mul", "Add"):
            constants[f"c{place}"] = draw(st.floats(1, 9.99)) * 10.0 ** draw(st.integers(-4, 4))
            nodes.append(node(kind, [source, f"c{place}"], name))
        elif kind == "Conv":
            seed = draw(st.integers(0, 99))
            weight = np.random.default_rng(seed).uniform(0.1, 1, (3, 3, 1, 1)).astype(np.float32)
            constants[f"c{place}"] = weight
            nodes.append(node("Conv", [source, f"c{place}"], name))
        elif kind == "Relu":
            nodes.append(node("Relu", [source], name))
        else:
            other = draw(st.sampled_from(values))
            nodes.append(node("Add" if kind == "join" else "Sum", [source, other], name))
        values.append(name)
    nodes.append(node("Identity", [values[-1]], "logits"))
    return model_of(nodes, constants)


@settings(max_examples=40, deadline=None)
@given(model=graphs())
def test_any_graph_of_positive_values_keeps_its_answers(
    model: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory
) -> None:
    half, record = convert(model, tmp_path_factory.mktemp("graph"))
    types = value_types(half)
    assert None not in types.values()
    assert record.float16_count + len(record.kept) == sum(each.op_type != "Transpose" for each in model.graph.node)
    assert decibels(run(model)[0], run(half)[0]) > 50
    assert decibels(run(model)[0], run_strictly(half)) > 50
