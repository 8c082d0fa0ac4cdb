"""Somebody else's graphs: every model of the onnx package's tests survives what we do to graphs, or is refused by a
sentence."""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from edgedistill_calibration.float16.conversion import to_float16
from edgedistill_calibration.graphs.preparation import WEIGHTED, activations, finish_graph, fold_graph
from edgedistill_calibration.int8._qdq import MEASURED_OPERATORS, ORT_TARGETS, TENSORRT_TARGET, Target, quantise_graph
from edgedistill_calibration.ranges.measurement import Range
from edgedistill_deploy.errors import EdgeDistillError
from reference.onnx_corpus import Case, file_cases, node_cases, run_case, sample


@dataclass(frozen=True, slots=True)
class Pass:
    """Something done to graphs, and how much its answers may differ, relative to their norm."""

    rewrite: Callable[[Case, Path], onnx.ModelProto]
    tolerance: float


def _with_metadata(case: Case, folder: Path) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    finish_graph(model, case.model, {"edgedistill.calibration": "abc"})
    assert {each.key: each.value for each in model.metadata_props}["edgedistill.calibration"] == "abc"
    return model


def _in_half(case: Case, folder: Path) -> onnx.ModelProto:
    return to_float16(case.model, lambda model, names: [run_case(model, names, case.feeds)])[0]


def _quantised(target: Target) -> Callable[[Case, Path], onnx.ModelProto]:
    def rewrite(case: Case, folder: Path) -> onnx.ModelProto:
        onnx.save(case.model, folder / "source.onnx")
        graph = fold_graph(folder / "source.onnx", folder / "prepared.onnx")
        ranges = _measure(graph, case)
        model = quantise_graph(folder / "prepared.onnx", folder / "int8.onnx", target, ranges, dict(case.feeds))
        finish_graph(model, case.model, {})
        _require_loadable(model, case)
        return model

    return rewrite


def _measure(model: onnx.ModelProto, case: Case) -> dict[str, Range]:
    names = activations(model.graph, MEASURED_OPERATORS)
    inputs = [
        each.name
        for each in model.graph.input
        if each.name in case.feeds and each.type.tensor_type.elem_type == TensorProto.FLOAT
    ]
    names = list(dict.fromkeys((*names, *inputs)))
    values = run_case(model, names, case.feeds)
    if not all(np.isfinite(value).all() for value in values):
        raise EdgeDistillError("a value is not finite")  # as measure_ranges does
    return {
        name: (float(value.min(initial=0)), float(value.max(initial=0)))
        for name, value in zip(names, values, strict=True)
    }


def _require_loadable(model: onnx.ModelProto, case: Case) -> None:
    try:
        run_case(model, None, case.feeds)
    except Exception as error:
        raise EdgeDistillError(f"ONNX Runtime does not load it: {error}") from error  # as open_model does


PASSES = {
    "metadata": Pass(_with_metadata, 1e-6),
    "float16": Pass(_in_half, 0.01),
    "int8-x86": Pass(_quantised(ORT_TARGETS["x86"]), 0.1),
    "int8-arm": Pass(_quantised(ORT_TARGETS["arm"]), 0.1),
    "int8-tensorrt": Pass(_quantised(TENSORRT_TARGET), 0.1),
}


def outcome(case: Case, done: Pass, folder: Path) -> str:
    """Return `survived`, or why not: refused in a sentence, or a fault of ours, which starts with `FAILED`."""
    if not _is_valid(case.model):
        return "not valid to begin with"
    before = _answers(case.model, case)
    if before is None and done.rewrite is not _with_metadata:
        return "not run by ONNX Runtime to begin with"
    try:
        model = done.rewrite(case, folder)
    except EdgeDistillError as error:
        return f"refused: {_general(str(error))}"
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        return f"FAILED {case.name}: {type(error).__name__}: {error}"
    if not _is_valid(model):
        return f"FAILED {case.name}: not valid"
    if before is None:
        return "survived"
    after = _answers(model, case)
    if after is None:
        return f"FAILED {case.name}: does not run"
    again = _answers(case.model, case)
    difference = _first_difference(before, after, done.tolerance)
    if difference and not _first_difference(before, again or [], 0.0):
        return f"FAILED {case.name}: {difference}"
    return "survived" if not difference else "answers at random"


def _is_valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


def _answers(model: onnx.ModelProto, case: Case) -> list[Any] | None:
    try:
        return list(_arrays(run_case(model, None, case.feeds)))
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors have no common class
        return None


def _arrays(values: Any) -> Iterator[NDArray[Any]]:
    for value in values:
        if isinstance(value, list):
            yield from _arrays(value)
        elif value is not None:
            yield np.asarray(value)


def _first_difference(before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]], tolerance: float) -> str | None:
    for one, other in zip(before, after, strict=True):
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return f"{one.dtype} {one.shape} became {other.dtype} {other.shape}"
        if one.dtype.kind != "f":
            # Quantisation may move a number over the edge between two integers; float16 must not here.
            if tolerance < 0.1 and not np.array_equal(one, other):
                return "integers differ"
            continue
        finite = np.isfinite(one)
        if not np.array_equal(finite, np.isfinite(other)):
            return "not finite elsewhere"
        wanted = one[finite].astype(np.float64)
        error = float(np.linalg.norm(wanted - other[finite]))
        if error > tolerance * float(np.linalg.norm(wanted)) + 1e-6 * tolerance:
            return f"off by {error:.3g} of {np.linalg.norm(wanted):.3g}"
    return None


def _general(reason: str) -> str:
    """Take names and numbers out of a sentence, so that reasons can be counted."""
    return re.sub(r"'[^']*'|\([^)]*\)|\S*\d\S*", "*", reason)[:120]


def count_outcomes(cases: Sequence[Case], done: Pass) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        return Counter(outcome(case, done, Path(folder)) for case in cases)


def failures(counts: Counter[str]) -> list[str]:
    return [each for each in counts if each.startswith("FAILED")]


@pytest.fixture(scope="module")
def corpus() -> list[Case]:
    return [*file_cases(), *node_cases()]


def _small(cases: Sequence[Case]) -> list[Case]:
    return [case for case in cases if not case.name.startswith("light/")]


def _weighted(cases: Sequence[Case]) -> list[Case]:
    return [case for case in _small(cases) if any(node.op_type in WEIGHTED for node in case.model.graph.node)]


@pytest.mark.parametrize(("name", "count"), [("metadata", 40), ("float16", 40)])
def test_a_sample_survives_or_is_refused(name: str, count: int, corpus: list[Case]) -> None:
    counts = count_outcomes(sample(_small(corpus), count, seed=4), PASSES[name])
    assert failures(counts) == []
    assert counts["survived"] >= count // 2


@pytest.mark.parametrize("name", ["float16", "int8-x86", "int8-arm", "int8-tensorrt"])
def test_a_sample_with_weights_survives_or_is_refused(name: str, corpus: list[Case]) -> None:
    counts = count_outcomes(sample(_weighted(corpus), 20, seed=4), PASSES[name])
    assert failures(counts) == []
    assert counts["survived"] >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", PASSES)
def test_every_model_survives_or_is_refused(name: str, corpus: list[Case]) -> None:
    counts = count_outcomes(corpus, PASSES[name])
    for reason, count in counts.most_common():
        print(f"{count:5} {reason}")
    assert failures(counts) == []
    assert counts["survived"] >= (100 if name.startswith("int8") else 1500)


def test_operators_of_other_domains_are_found_inside_branches() -> None:
    case = next(each for each in node_cases() if each.name == "node/test_if")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    branch = next(node for node in model.graph.node if node.op_type == "If").attribute[0].g
    branch.node[0].domain = "com.example"
    with pytest.raises(EdgeDistillError, match=r"uses com\.example\.Constant, which not every runtime has"):
        finish_graph(model, case.model, {})


def test_int8_needs_an_opset_with_scales_by_channel(tmp_path: Path) -> None:
    case = next(each for each in file_cases() if each.name == "pytorch-converted/test_Conv2d")
    onnx.save(case.model, tmp_path / "source.onnx")
    with pytest.raises(EdgeDistillError, match=r"has opset 6, and INT8 weights .* need 13; export the student"):
        fold_graph(tmp_path / "source.onnx", tmp_path / "prepared.onnx")


def test_what_the_runtime_cannot_quantise_ends_in_a_sentence(tmp_path: Path) -> None:
    case = next(each for each in node_cases() if each.name == "node/test_matmul_2d")
    onnx.save(case.model, tmp_path / "source.onnx")
    fold_graph(tmp_path / "source.onnx", tmp_path / "prepared.onnx")
    with pytest.raises(EdgeDistillError, match="ONNX Runtime cannot quantise the model"):
        quantise_graph(tmp_path / "prepared.onnx", tmp_path / "int8.onnx", ORT_TARGETS["x86"], {}, {})


def test_what_is_no_longer_valid_is_refused() -> None:
    case = next(each for each in node_cases() if each.name == "node/test_matmul_2d")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.graph.node[0].input[1] = "nowhere"
    with pytest.raises(EdgeDistillError, match="cannot be rewritten as valid ONNX: Nodes in a graph must be"):
        finish_graph(model, case.model, {})
