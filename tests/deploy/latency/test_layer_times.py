"""Times of nodes by ONNX Runtime's own profiler, and the modules that they are of."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.latency import layer_times
from edgedistill_deploy.latency.layer_times import measure_layers
from edgedistill_deploy.latency.measurement import LatencyConfig
from edgedistill_deploy.onnx_files.modules import ModulesOfNodes
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.profiling.run import run_profile
from edgedistill_deploy.runtimes._node_times import sum_events, sum_layers
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session
from reference.measured_bundles import bundle_of

SIDE = 16
QUICK = LatencyConfig(warmup_s=0.0, warmup_runs=1, duration_s=0.0, min_runs=20)
FEEDS = {"image": np.zeros((1, SIDE, SIDE, 3), np.uint8)}


def weight(name: str, *shape: int) -> onnx.TensorProto:
    values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    return numpy_helper.from_array(values, name)


def network(path: Path, *, named: bool = True, slow: str = "stages.1.conv") -> Path:
    """Write three convolutions with activations and a head; one has a kernel that costs ten times what the others'
    do."""
    nodes = [
        helper.make_node("Cast", ["image"], ["_to_copy"], name="normalise/Cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["_to_copy"], ["permute"], name="normalise/Transpose", perm=[0, 3, 1, 2]),
    ]
    weights, value, channels = [], "permute", 3
    for place, module in enumerate(("stages.0.conv", "stages.1.conv", "stages.2.conv")):
        # The first reads three channels alone.
        size = (17 if channels == 3 else 9) if module == slow else 1
        weights.append(weight(f"model.{module}.weight", 64, channels, size, size))
        pads = [size // 2] * 4
        conv, act = f"conv_{place}", f"relu_{place}"
        nodes += [
            helper.make_node("Conv", [value, weights[-1].name], [conv], name=f"model.{module}/Conv", pads=pads),
            helper.make_node("Relu", [conv], [act], name=f"model.{module.replace('conv', 'act')}/Relu"),
        ]
        value, channels = act, 64
    weights.append(weight("model.head.weight", 64, 3))
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["mean"], name="model.pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="model.pool/Flatten"),
        helper.make_node("MatMul", ["flat", "model.head.weight"], ["logits"], name="model.head/MatMul"),
    ]
    for place, node in enumerate(nodes):
        node.name = node.name if named else f"node_{place}"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("slow", ["stages.0.conv", "stages.1.conv", "stages.2.conv"])
def test_a_slow_layer_is_first_under_its_module(tmp_path: Path, slow: str) -> None:
    with open_model(network(tmp_path / "model.onnx", slow=slow), precision="fp32", threads=1) as session:
        report = measure_layers(session, FEEDS)
    assert (report.layers[0].module, report.layers[0].op_type) == (slow, "Conv")
    assert report.layers[0].share > 0.4
    means = [each.mean_ms for each in report.layers]
    assert means == sorted(means, reverse=True)
    assert {each.provider for each in report.layers} == {"cpu"}


def test_the_nodes_and_what_is_in_none_make_up_the_run(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    with open_model(network(tmp_path / "model.onnx"), precision="fp32", threads=1) as session:
        report = measure_layers(session, FEEDS, lambda done, total, note="": seen.append((done, total)))
    record = report.to_json()
    inside = sum(node["mean_ms"] for node in record["layers"])
    run = record["layer_run"]
    assert 0.5 * run["mean_ms"] < inside <= run["mean_ms"]
    assert inside + run["outside_ms"] == pytest.approx(run["mean_ms"])
    assert sum(node["share"] for node in record["layers"]) + run["outside_share"] == pytest.approx(1.0)
    assert seen[-1] == (205, 205)
    assert run["runs"] == 100
    assert run["source"] == "ONNX Runtime's profiler"


def test_the_trace_is_gone_and_the_timed_session_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.chdir(scratch)
    with open_model(network(tmp_path / "model.onnx"), precision="fp32", threads=1) as session:
        measure_layers(session, FEEDS)
        assert session.run(FEEDS)["logits"].shape == (1, 3)
    assert list(scratch.iterdir()) == []


def test_a_file_without_module_names_is_told_by_its_weights(tmp_path: Path) -> None:
    with open_model(network(tmp_path / "model.onnx", named=False), precision="fp32", threads=1) as session:
        report = measure_layers(session, FEEDS)
    assert report.layers[0].module == "stages.1.conv"
    modules = {each.module for each in report.layers}
    assert {"stages.0.conv", "stages.2.conv", "head"} <= modules
    assert modules <= {"stages.0.conv", "stages.1.conv", "stages.2.conv", "head", None}


@pytest.mark.parametrize(
    ("name", "operator", "module"),
    [
        ("model.stages.0.conv/Conv", "Conv", "stages.0.conv"),
        ("model.stages.0.conv/Conv_token_7", "QLinearConv", "stages.0.conv"),
        ("relu_0_nchwc", "Conv", "stages.0.conv"),  # the convolution, named after the activation joined to it
        ("relu_2", "Relu", "stages.2.act"),
        ("InsertedPrecisionFreeCast_relu_1_float16_nchwc", "Conv", "stages.1.conv"),
        ("relu_1_QuantizeLinear", "QuantizeLinear", "stages.1.act"),
        ("model.head.weight_DequantizeLinear/duplicated", "DequantizeLinear", "head"),
        ("model.stages.0.conv/Conv + model.stages.0.act/Relu", None, "stages.0.conv"),  # TensorRT's joined layers
        ("PWN(model.stages.1.act/Relu)", None, "stages.1.act"),
        ("Reformatting CopyNode for Input Tensor 0 to model.head/MatMul", None, "head"),
        ("{ForeignNode[normalise/Cast...model.stages.0.conv/Conv]}", None, "stages.0.conv"),
        ("ReorderOutput_token_3", "ReorderOutput", None),
        ("Transpose_token_1", "Transpose", None),
        ("relu", "Relu", None),
        ("", None, None),
    ],
)
def test_a_runtimes_names_lead_to_the_module(
    tmp_path: Path, name: str, operator: str | None, module: str | None
) -> None:
    assert ModulesOfNodes(network(tmp_path / "model.onnx")).find(name, operator)[0] == module


def event(name: str, ts: int, dur: int, **args: Any) -> dict[str, Any]:
    cat = "Session" if name == "model_run" else "Node"
    return {"cat": cat, "name": name, "ts": ts, "dur": dur, "args": args}


def node(name: str, ts: int, dur: int, operator: str = "Conv") -> dict[str, Any]:
    return event(f"{name}_kernel_time", ts, dur, op_name=operator, provider="CPUExecutionProvider", node_index=name)


def test_only_the_faster_half_of_the_runs_after_the_warm_up_counts(tmp_path: Path) -> None:
    modules = ModulesOfNodes(network(tmp_path / "model.onnx"))
    events = []
    for run, dur in enumerate((900, 100, 5000, 120, 4000)):  # the first is the warm-up
        start = 10_000 * run
        events += [node("conv_1", start + 1, dur - 20), event("model_run", start, dur)]
    report = layer_times._of_trace(sum_events(events, 1, 4), modules)
    assert report.runs == 2
    assert report.mean_ms == pytest.approx(0.110)
    assert report.layers[0].mean_ms == pytest.approx(0.090)
    assert report.outside_ms == pytest.approx(0.020)


def test_nodes_inside_a_branch_are_not_counted_twice(tmp_path: Path) -> None:
    modules = ModulesOfNodes(network(tmp_path / "model.onnx"))
    events = [node("inner", 11, 20), node("branch", 10, 50, "If"), node("after", 60, 10), event("model_run", 5, 80)]
    report = layer_times._of_trace(sum_events(events, 0, 1), modules)
    assert {each.node: round(1000 * each.mean_ms) for each in report.layers} == {"branch": 50, "after": 10}


def test_a_run_image_by_image_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    modules = ModulesOfNodes(network(tmp_path / "model.onnx"))
    events = []
    for part in range(8):  # two runs of four images
        events += [node("conv_0", 1000 * part + 1, 30), event("model_run", 1000 * part, 40)]
    report = layer_times._of_trace(sum_events(events, 0, 2), modules)
    assert report.mean_ms == pytest.approx(0.160)
    assert report.layers[0].mean_ms == pytest.approx(0.120)


def test_tensorrts_layers_are_shares_of_their_sum(tmp_path: Path) -> None:
    modules = ModulesOfNodes(network(tmp_path / "model.onnx"))
    times = [("model.stages.0.conv/Conv + model.stages.0.act/Relu", (1.0, 3.0)), ("model.head/MatMul", (6.0, 6.0))]
    report = layer_times._of_trace(sum_layers(times, "cuda"), modules)
    assert [(each.module, each.mean_ms, each.share) for each in report.layers] == [
        ("head", 6.0, 0.75),
        ("stages.0.conv", 2.0, 0.25),
    ]
    assert report.to_json()["layer_run"] == {
        "source": "TensorRT's profiler",
        "runs": 2,
        "mean_ms": 8.0,
        "outside_ms": None,
        "outside_share": None,
    }


def test_a_runtime_without_a_profiler_is_a_sentence(tmp_path: Path) -> None:
    other = SimpleNamespace(
        model_path=network(tmp_path / "model.onnx"), runtime="other", trace_nodes=lambda *_, **__: None
    )
    with pytest.raises(UsageError, match="other tells no times of single nodes; leave --layers out"):
        measure_layers(cast(Session, other), FEEDS)


def test_a_profile_has_nodes_and_power_where_they_are_asked_for(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, [0, 1], [0, 1], [0, 1])
    request = ProfileRequest(latency=QUICK, precisions=("fp32",), layers=True, power=True)
    (record,) = run_profile(bundle.path, request)["records"]
    assert record["layers"]
    assert record["layer_run"]["runs"] == 100
    assert record["power"]["batch_size"] == 1 or record["power"]["reason"].startswith("not available")
    assert record["power"]["energy_per_image_mj"] != 0
    (plain,) = run_profile(bundle.path, ProfileRequest(latency=QUICK, precisions=("fp32",)))["records"]
    assert not {"layers", "layer_run", "power"} & set(plain)
