"""The INT8 file for one device: what pays there is computed in INT8 by the real runtime, and the rest in float."""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from command import run_command
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import write_golden
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.latency.layer_times import measure_layers
from edgedistill_deploy.records.layers import LayerReport
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model, open_session
from reference.fitted_networks import SIZE, shape_images
from reference.report_bundles import latency_record
from reference.shape_bundles import float_bundle, labelled

CONFIG = CalibrationConfig(
    images=64, held_out=64, method="minmax", profile="x86", max_drop=0.5, fp16=False, ledger_nodes=0
)
NODES = ("stem", "inner_1", "inner_2", "longer_1", "longer_2", "shortcut", "last", "head")
FILE = "model.int8-workbench.onnx"


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return labelled(tmp_path_factory.mktemp("training") / "shapes.npz", *shape_images(40, seed=1))


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, training: ImageSet) -> Bundle:
    bundle = float_bundle(tmp_path_factory.mktemp("calibrated") / "bundle")
    images = shape_images(1, seed=5)[0]
    with open_model(bundle.file("model.fp32"), precision="fp32") as session:
        write_golden(bundle.path / "golden.npz", images, logits_of(session, images))
    return calibrate(bundle.with_file("golden", bundle.path / "golden.npz"), training, CONFIG)


@pytest.fixture(scope="module")
def traced(calibrated: Bundle) -> dict[str, LayerReport]:
    """The runtime's own names of nodes, in both files."""
    feeds = {"image": np.zeros((1, SIZE, SIZE, 3), np.uint8)}
    found = {}
    for precision in ("fp32", "int8"):
        with open_session(calibrated, precision=precision, threads=1) as session:
            found[precision] = measure_layers(session, feeds)
    return found


@pytest.fixture
def bundle(calibrated: Bundle, tmp_path: Path) -> Bundle:
    return open_bundle(Path(shutil.copytree(calibrated.path, tmp_path / "bundle")))


def write_times(bundle: Bundle, traced: dict[str, LayerReport], slow: Collection[str], **changes: Any) -> list[Path]:
    """Write records of a device on which INT8 takes half of float's 1 ms, and 4 ms for the nodes that are `slow`."""
    written = []
    for precision, report in traced.items():
        record = {**latency_record(bundle, precision), **report.to_json(), **changes}
        for layer in record["layers"]:
            is_product = layer["op_type"] in ("Conv", "FusedConv", "Gemm", "FusedGemm", "QLinearConv", "QGemm")
            node = next((name for name in NODES if layer["module"] == name or name in layer["node"]), "")
            quick = 4.0 if node in slow else 0.5
            layer["mean_ms"] = 1e-4 if not is_product else 1.0 if precision == "fp32" else quick
        path = bundle.path / "latency" / f"workbench-onnxruntime-{precision}.json"
        write_json(path, record)
        written.append(path)
    return written


def operators(path: Path) -> dict[str, str]:
    """Return how ONNX Runtime computes each node with weights of an INT8 file: by its kind of operator."""
    from edgedistill_deploy.onnx_files.modules import ModulesOfNodes

    modules = ModulesOfNodes(path)
    with open_model(path, precision="int8", threads=1) as session:
        trace = session.trace_nodes({"image": np.zeros((1, SIZE, SIZE, 3), np.uint8)}, warm_up=0, runs=1)
    assert trace is not None
    found = ((modules.node_of(node.name, node.op_type), node.op_type) for node in trace.nodes)
    return {node.name: str(kind) for node, kind in found if node is not None and node.name in NODES}


def logits_of_file(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with open_model(path, precision="int8") as session:
        return logits_of(session, images)


def test_the_nodes_that_do_not_pay_are_float_and_the_others_int8_in_the_runtime(
    bundle: Bundle, traced: dict[str, LayerReport]
) -> None:
    slow = ("stem", "inner_2", "last")
    record, _ = write_times(bundle, traced, slow)
    general = bundle.model_sha256("model.int8")
    outcome = run_command("calibrate", bundle.path, "--for", record, "--json")
    assert outcome.code == 0, outcome.stderr
    told = json.loads(outcome.stdout)
    assert (told["kind"], told["device"], told["file"]) == ("calibration-for-device", "workbench", FILE)
    assert {each["node"] for each in told["nodes"] if not each["is_int8"]} == {*slow}
    assert told["estimate_ms"]["mixed"] < min(told["estimate_ms"]["fp32"], told["estimate_ms"]["int8"])
    after = open_bundle(bundle.path)  # all hashes are checked
    assert after.model_sha256("model.int8") == general
    assert after.has("golden.int8-workbench")
    kinds = operators(bundle.path / FILE)
    assert {name for name, kind in kinds.items() if not kind.startswith("Q")} == {*slow}
    assert {name for name, kind in kinds.items() if kind.startswith("Q")} == {*NODES} - {*slow}
    images = shape_images(20, seed=7)[0]
    with open_session(after, precision="fp32") as session:
        wanted = logits_of(session, images)
    given = logits_of_file(bundle.path / FILE, images)
    assert np.mean(given.argmax(axis=1) == wanted.argmax(axis=1)) > 0.95
    metadata = {each.key: each.value for each in onnx.load(bundle.path / FILE).metadata_props}
    assert metadata["edgedistill.device"] == "workbench"
    assert {*json.loads(metadata["edgedistill.float_nodes"])} == {*slow}


def test_the_same_again_does_nothing_and_other_times_make_another_file(
    bundle: Bundle, traced: dict[str, LayerReport], training: ImageSet
) -> None:
    record, _ = write_times(bundle, traced, ("last",))
    assert run_command("calibrate", bundle.path, "--for", record).code == 0
    made = (bundle.path / FILE).stat().st_mtime_ns
    again = run_command("calibrate", bundle.path, "--for", record)
    assert "done before from the same files and records" in again.stderr
    assert (bundle.path / FILE).stat().st_mtime_ns == made
    # The record may be named as it lies in the bundle.
    write_times(bundle, traced, NODES)
    none = run_command("calibrate", bundle.path, "--for", f"latency/{record.name}")
    assert none.code == 0, none.stderr
    assert "On workbench none of the 8 nodes is faster in INT8" in none.stdout
    assert "deploy fp32 there" in none.stdout
    assert not (bundle.path / FILE).exists()
    assert not open_bundle(bundle.path).has("model.int8-workbench")
    write_times(bundle, traced, ())
    every = run_command("calibrate", bundle.path, "--for", record)
    assert "each of the 8 nodes is faster in INT8, so model.int8.onnx is its file" in every.stdout
    # A new calibration makes new files, and those for devices are of the old ones.
    write_times(bundle, traced, ("last",))
    assert run_command("calibrate", bundle.path, "--for", record).code == 0
    renewed = calibrate(open_bundle(bundle.path), training, CalibrationConfig(**{**_settings(), "seed": 1}))
    assert not renewed.has("model.int8-workbench")
    assert not (bundle.path / FILE).exists()


def _settings() -> dict[str, Any]:
    return {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        ({"layers": []}, 2, "is the latency record of fp32, but it has no times of single nodes"),
        ({"model_sha256": "0" * 64}, 1, "was measured on another model.fp32.onnx than the bundle has"),
        ({"provider": "openvino:CPU"}, 2, "was measured with 'onnxruntime' and the provider 'openvino:CPU'"),
        ({"flags": ["emulated"]}, 2, "was measured on an emulated processor"),
        ({"runs": "many"}, 1, "is damaged"),
        ({"layer_run": 7}, 1, "is damaged"),
        ({"schema": 9}, 1, "is not a latency record of schema 1"),
    ],
)
def test_a_record_that_does_not_serve_is_refused_in_one_sentence(
    spoil: dict[str, Any], code: int, message: str, bundle: Bundle, traced: dict[str, LayerReport]
) -> None:
    record, _ = write_times(bundle, traced, ("last",), **spoil)
    outcome = run_command("calibrate", bundle.path, "--for", record)
    assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
    assert message in outcome.stderr
    assert not (bundle.path / FILE).exists()


def test_what_is_missing_is_named_with_the_next_step(
    bundle: Bundle, traced: dict[str, LayerReport], tmp_path: Path
) -> None:
    record, other = write_times(bundle, traced, ("last",))
    shutil.copy(record, tmp_path / "alone.json")
    cases: list[tuple[tuple[str | Path, ...], int, str]] = [
        (("--for", tmp_path / "none.json"), 2, "There is no latency record"),
        (("--for", "../alone.json"), 2, "There is no latency record"),
        (("--for", record, "--images", "70"), 2, "--for makes a file out of those that are calibrated"),
    ]
    other.unlink()
    cases.append((("--for", tmp_path / "alone.json"), 2, "There are no times of single nodes of int8 on workbench"))
    for words, code, message in cases:
        outcome = run_command("calibrate", bundle.path, *words)
        assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
        assert message in outcome.stderr
    floating = float_bundle(tmp_path / "float")
    outcome = run_command("calibrate", floating.path, "--for", record)
    assert outcome.code == 2
    assert "has no model.int8.onnx yet; run `edgedistill calibrate" in outcome.stderr
