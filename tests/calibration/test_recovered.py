"""A student trained under quantisation takes the place of the INT8 files only where it is the better one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgedistill_calibration import CalibrationConfig, calibrate, calibrate_recovered
from edgedistill_calibration.judging.ledger import read_ledger
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.sets import ImageSet
from reference.fitted_networks import METADATA, shape_images, write_network
from reference.fragile_networks import fragile_bundle, fragile_weights
from reference.shape_bundles import float_bundle, labelled

CONFIG = CalibrationConfig(
    images=64, held_out=128, method="minmax", profile="x86", max_drop=0.05, fp16=False, ledger_nodes=0
)
INT8 = ("int8", "int8-tensorrt")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return labelled(tmp_path_factory.mktemp("training") / "shapes.npz", *shape_images(100, seed=1))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, training: ImageSet) -> Bundle:
    """A sound student, calibrated; nobody changes it."""
    return calibrate(float_bundle(tmp_path_factory.mktemp("sound") / "bundle"), training, CONFIG)


@pytest.fixture
def calibrated(sound: Bundle, tmp_path: Path) -> Bundle:
    """A copy of it."""
    return open_bundle(shutil.copytree(sound.path, tmp_path / "bundle"))


def steps_of(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {step["stage"]: step for step in read_ledger(bundle)["steps"]}


def test_a_recovered_student_replaces_files_that_lost_their_accuracy(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(fragile_bundle(tmp_path / "bundle", "inner_1"), training, replace(CONFIG, fp16=True))
    broken = {name: bundle.model_sha256(f"model.{name}") for name in INT8}
    mixed = bundle.model_sha256("model.int8-fp16-tensorrt")
    recovered = write_network(tmp_path / "recovered.onnx")
    bundle = open_bundle(calibrate_recovered(bundle, recovered, training, replace(CONFIG, fp16=True)).path)
    steps = steps_of(bundle)
    for name in INT8:
        assert steps[name]["accuracy"] < 0.6
        assert steps[f"{name}-recovered"]["accuracy"] > 0.9
        assert (steps[name]["model_sha256"], steps[name]["kept"]) == (broken[name], False)
        assert steps[f"{name}-recovered"]["model_sha256"] == bundle.model_sha256(f"model.{name}")
        assert steps[f"{name}-recovered"]["kept"]
        metadata = {each.key: each.value for each in onnx.load(bundle.file(f"model.{name}")).metadata_props}
        assert metadata.items() >= METADATA.items()
        assert metadata["edgedistill.recovered"] == sha256_of_file(recovered)
    assert bundle.model_sha256("model.int8-fp16-tensorrt") != mixed
    assert steps["int8-fp16-tensorrt"]["model_sha256"] == bundle.model_sha256("model.int8-fp16-tensorrt")
    assert steps["int8-fp16-tensorrt"]["accuracy"] > 0.9
    assert bundle.manifest["calibration"]["recovery"]["kept"] == list(INT8)
    assert bundle.manifest["calibration"]["key"]


def test_a_recovered_student_that_is_worse_is_recorded_and_left(
    tmp_path: Path, training: ImageSet, calibrated: Bundle
) -> None:
    bundle = calibrated
    before = {name: bundle.model_sha256(f"model.{name}") for name in INT8}
    recovered = write_network(tmp_path / "recovered.onnx", weights=fragile_weights("inner_1"))
    seen: list[tuple[int, int]] = []
    bundle = calibrate_recovered(bundle, recovered, training, CONFIG, lambda *at: seen.append(at[:2]))
    steps = steps_of(bundle)
    assert {name: bundle.model_sha256(f"model.{name}") for name in INT8} == before
    for name in INT8:
        assert steps[name]["kept"]
        assert not steps[f"{name}-recovered"]["kept"]
        # How much worse it is differs from processor to processor.
        assert steps[f"{name}-recovered"]["accuracy"] < steps[name]["accuracy"]
    assert bundle.manifest["calibration"]["recovery"]["kept"] == []
    assert seen[-1][0] == seen[-1][1]


def test_a_second_recovery_takes_the_place_of_the_first_in_the_ledger(
    tmp_path: Path, training: ImageSet, calibrated: Bundle
) -> None:
    bundle = calibrated
    for layers in (("inner_1",), ("longer_1",)):
        recovered = write_network(tmp_path / f"{layers[0]}.onnx", weights=fragile_weights(*layers))
        bundle = calibrate_recovered(bundle, recovered, training, CONFIG)
    stages = [step["stage"] for step in read_ledger(bundle)["steps"]]
    assert stages == ["fp32", "int8", "int8-tensorrt", "int8-recovered", "int8-tensorrt-recovered"]


def test_a_bundle_that_was_not_calibrated_is_refused(tmp_path: Path, training: ImageSet) -> None:
    recovered = write_network(tmp_path / "recovered.onnx")
    with pytest.raises(BundleError, match="has no ledger"):
        calibrate_recovered(float_bundle(tmp_path / "bundle"), recovered, training, CONFIG)


def test_a_student_with_other_outputs_is_refused(tmp_path: Path, training: ImageSet, calibrated: Bundle) -> None:
    bundle = calibrated
    path = write_network(tmp_path / "recovered.onnx")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = model.graph.output[0].name = "scores"
    onnx.save(model, path)
    with pytest.raises(EdgeDistillError, match=r"has the values image, scores, and model\.fp32\.onnx .* image, logits"):
        calibrate_recovered(bundle, path, training, CONFIG)
