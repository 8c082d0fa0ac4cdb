"""Planted faults of quantisation: the ledger names the node, leaving it in float brings the accuracy back, or says why
not."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgedistill_calibration import CalibrationConfig, calibrate, config
from edgedistill_calibration.dataset import select_calibration
from edgedistill_calibration.int8 import exclusions
from edgedistill_calibration.int8._node_errors import NodeCost, node_costs, sample_count
from edgedistill_calibration.judging import effort
from edgedistill_calibration.judging.ledger import read_ledger
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.images.sets import ImageSet
from reference.as_written import open_as_written
from reference.fitted_networks import shape_images, write_network
from reference.fragile_networks import fragile_bundle, fragile_weights
from reference.qdq import QdqGraph
from reference.shape_bundles import float_bundle, labelled

CONFIG = CalibrationConfig(images=64, held_out=128, method="minmax", profile="x86", max_drop=0.05, fp16=False)
INT8 = ("int8", "int8-tensorrt")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return labelled(tmp_path_factory.mktemp("training") / "shapes.npz", *shape_images(100, seed=1))


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory, training: ImageSet) -> Bundle:
    """A student with one channel between inner_1 and inner_2 a thousand times as large as the others, calibrated."""
    return calibrate(fragile_bundle(tmp_path_factory.mktemp("fragile") / "bundle", "inner_1"), training, CONFIG)


def steps_of(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {step["stage"]: step for step in read_ledger(bundle)["steps"]}


def logits_of(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = open_as_written(path).run(["logits"], {"image": images})[0]
    return logits


def test_the_planted_student_is_the_sound_one_in_float(tmp_path: Path) -> None:
    images = shape_images(8, seed=4)[0]
    sound = write_network(tmp_path / "sound.onnx")
    planted = write_network(tmp_path / "planted.onnx", weights=fragile_weights("inner_1", "longer_1", "last"))
    np.testing.assert_allclose(logits_of(planted, images), logits_of(sound, images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("stage", INT8)
def test_the_fragile_node_is_named_worst(stage: str, fragile: Bundle) -> None:
    nodes = steps_of(fragile)[stage]["nodes"]
    assert len(nodes) == 8
    worst, others = nodes[0], nodes[1:]
    assert worst["node"] == "inner_2"
    assert worst["alone"]["accuracy_change"] < -0.2
    assert worst["left_in_float"]["accuracy_change"] > 0.2
    assert worst["sqnr_db"] < 5
    for node in others:
        assert node["alone"]["accuracy_change"] > -0.05
        assert node["alone"]["sqnr_db"] > worst["alone"]["sqnr_db"] + 20
        assert node["left_in_float"]["sqnr_db"] < worst["left_in_float"]["sqnr_db"] - 10


@pytest.mark.parametrize("stage", INT8)
def test_it_is_left_in_float_first_and_the_accuracy_holds(stage: str, fragile: Bundle, training: ImageSet) -> None:
    step = steps_of(fragile)[stage]
    assert [each["node"] for each in step["exclusions"]] == ["inner_2"]
    assert step["goal"] == {
        "max_drop": 0.05,
        "drop": pytest.approx(steps_of(fragile)["fp32"]["accuracy"] - step["accuracy"]),
        "met": True,
        "float_share": pytest.approx(746496 / 3089792, rel=1e-3),
        "reason": "",
    }
    # The file itself answers as the record says.
    held_out = select_calibration(training, 64, 0, held_out=128).held_out
    images = np.stack([np.asarray(held_out.read(index)) for index in range(len(held_out))])
    answers = logits_of(fragile.file(f"model.{stage}"), images).argmax(axis=1)
    assert np.mean(answers == held_out.labels) == pytest.approx(step["accuracy"], abs=0.01)
    assert step["goal"]["drop"] <= 0.05


@pytest.mark.parametrize("stage", INT8)
def test_the_record_says_what_the_exclusion_bought(stage: str, fragile: Bundle, tmp_path: Path) -> None:
    step = steps_of(fragile)[stage]
    (made,) = step["exclusions"]
    assert made["kept"]
    assert (made["accuracy"], made["bytes"]) == (step["accuracy"], step["bytes"])
    assert made["bought"]["accuracy"] > 0.2
    assert made["bought"]["agreement"] > 0.2
    assert made["bought"]["sqnr_db"] > 20
    # Weights of four bytes instead of one, less the scales that are not needed any more.
    assert 0 < made["bought"]["bytes"] < 3 * 12 * 12 * 9


@pytest.mark.parametrize("stage", INT8)
def test_the_file_has_that_node_alone_in_float_and_says_so(stage: str, fragile: Bundle) -> None:
    graph = QdqGraph(fragile.file(f"model.{stage}"))
    floats = [node.name for node in graph.of("Conv", "Gemm") if graph.dequantised(node.input[1]) is None]
    assert floats == ["inner_2"]
    metadata = {each.key: each.value for each in graph.model.metadata_props}
    assert json.loads(metadata["edgedistill.float_nodes"]) == ["inner_2"]
    onnx.checker.check_model(graph.model, full_check=True)


def test_the_notes_name_it(fragile: Bundle) -> None:
    notes = [note for note in fragile.manifest["calibration"]["notes"] if "in float" in note]
    assert [note.split(" ")[0] for note in notes] == ["model.int8.onnx", "model.int8-tensorrt.onnx"]
    assert "with inner_2 in float" in notes[0]


def test_a_sound_student_stays_int8_throughout(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, CONFIG)
    for stage in INT8:
        step = steps_of(bundle)[stage]
        assert (step["exclusions"], step["goal"]["met"], step["goal"]["float_share"]) == ([], True, 0)
        assert step["node_sample_count"] == 128


def measured_nodes(bundle: Bundle, stage: str) -> list[str]:
    return [node["node"] for node in steps_of(bundle)[stage]["nodes"] if node["alone"] is not None]


def test_where_the_limit_holds_a_sample_is_measured_and_the_record_says_so(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "SAMPLED_NODES", 3)
    sampled = calibrate(float_bundle(tmp_path / "sampled"), training, CONFIG)
    whole = calibrate(float_bundle(tmp_path / "whole"), training, replace(CONFIG, ledger_nodes="all"))
    for stage in INT8:
        step = steps_of(sampled)[stage]
        assert (len(step["nodes"]), step["nodes_tried"]) == (8, 3)
        assert len(measured_nodes(sampled, stage)) == 3
        assert all(node["sqnr_db"] is not None for node in step["nodes"])
        assert len(measured_nodes(whole, stage)) == steps_of(whole)[stage]["nodes_tried"] == 8
        assert step["model_sha256"] == steps_of(whole)[stage]["model_sha256"]


def test_where_the_limit_is_missed_every_node_is_measured_even_with_a_small_sample(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch, fragile: Bundle
) -> None:
    monkeypatch.setattr(config, "SAMPLED_NODES", 1)
    bundle = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, CONFIG)
    assert [len(measured_nodes(bundle, stage)) for stage in INT8] == [8, 8]
    assert bundle.model_sha256("model.int8") == fragile.model_sha256("model.int8")


def test_a_goal_out_of_reach_is_said_with_the_reason_and_the_best_is_kept(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusions, "LARGEST_FLOAT_SHARE", 0.2)
    bundle = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, replace(CONFIG, ledger_nodes=3))
    for stage in INT8:
        step = steps_of(bundle)[stage]
        assert not step["goal"]["met"]
        assert step["goal"]["drop"] > 0.05
        assert step["goal"]["float_share"] <= 0.2
        assert "more than 20% of the multiply-adds would be float" in step["goal"]["reason"]
        assert "inner_2" not in [each["node"] for each in step["exclusions"]]
        tried = [each["accuracy"] for each in step["exclusions"]]
        assert all(step["accuracy"] >= accuracy for accuracy in tried)
        assert step["model_sha256"] == bundle.model_sha256(f"model.{stage}")
    notes = " ".join(bundle.manifest["calibration"]["notes"])
    assert "more than the 5.0 allowed (--max-drop): with another node more than 20%" in notes


def test_without_measured_nodes_none_is_left_in_float(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, replace(CONFIG, ledger_nodes=0))
    step = steps_of(bundle)["int8"]
    assert (step["nodes"], step["exclusions"], step["goal"]["met"]) == ([], [], False)
    assert step["goal"]["reason"].startswith("ledger_nodes is 0")


def test_of_many_nodes_the_noisiest_are_measured(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, replace(CONFIG, ledger_nodes=2))
    nodes = steps_of(bundle)["int8"]["nodes"]
    measured = [node["node"] for node in nodes if node["alone"] is not None]
    assert len(measured) == 2
    assert measured[0] == "inner_2"
    assert len(nodes) == 8
    assert steps_of(bundle)["int8"]["goal"]["met"]


def test_costs_are_those_of_the_layers(tmp_path: Path) -> None:
    model = onnx.load(write_network(tmp_path / "model.onnx"))
    costs = node_costs(model, shape_images(1, seed=0)[0][:1])
    assert costs["stem"] == NodeCost(multiply_adds=12 * 3 * 9 * 24 * 24, weight_count=12 * 3 * 9)
    assert costs["shortcut"] == NodeCost(multiply_adds=24 * 12 * 12 * 12, weight_count=24 * 12)
    assert costs["head"] == NodeCost(multiply_adds=4 * 32, weight_count=4 * 32)


def test_large_models_are_measured_on_fewer_images_and_never_on_too_few() -> None:
    def count(multiply_adds: int) -> int:
        costs = {str(place): NodeCost(multiply_adds=multiply_adds, weight_count=1) for place in range(50)}
        return sample_count(costs, [50, 50], effort.NODES_BUDGET)

    assert count(1000) == effort.MOST_FOR_NODES
    assert effort.FEWEST_FOR_NODES < count(10_000_000) < effort.MOST_FOR_NODES
    assert count(10**9) == effort.FEWEST_FOR_NODES
