"""Calibration records what each file gives, judges a mixed file as written, and warns of a file that is far off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_calibration.judging import expectations
from edgedistill_calibration.judging.ledger import Figures, LedgerStep, read_ledger
from edgedistill_calibration.judging.steps import far_below_neighbours
from edgedistill_deploy.bundle.expectation import read_expectation
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import write_golden
from edgedistill_deploy.images.golden import limit_images
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model, open_session
from reference.as_written import open_as_written
from reference.fitted_networks import SIZE, shape_images
from reference.shape_bundles import float_bundle, labelled

CONFIG = CalibrationConfig(images=64, held_out=64, method="minmax", profile="x86", max_drop=0.5, ledger_nodes=0)
MADE = ("int8", "int8-tensorrt", "fp16", "int8-fp16-tensorrt")
MIXED = "int8-fp16-tensorrt"
Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return labelled(tmp_path_factory.mktemp("data") / "train.npz", *shape_images(40, seed=1))


@pytest.fixture(scope="module")
def inputs() -> Images:
    return np.concatenate([shape_images(3, seed=2)[0], limit_images((SIZE, SIZE))])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, training: ImageSet, inputs: Images) -> Bundle:
    return calibrate(with_golden(float_bundle(tmp_path_factory.mktemp("made") / "bundle"), inputs), training, CONFIG)


def with_golden(bundle: Bundle, inputs: Images) -> Bundle:
    with open_model(bundle.file("model.fp32"), precision="fp32") as session:
        write_golden(bundle.path / "golden.npz", inputs, logits_of(session, inputs))
    return bundle.with_file("golden", bundle.path / "golden.npz")


def written(path: Path, inputs: Images) -> NDArray[np.float32]:
    """The answers of a file as it is written, computed here without the product."""
    answers: NDArray[np.float32] = open_as_written(path).run(["logits"], {"image": inputs})[0]
    return answers


def fused(path: Path, inputs: Images) -> NDArray[np.float32]:
    """The answers that ONNX Runtime gives on its own."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers: NDArray[np.float32] = session.run(["logits"], {"image": inputs})[0]
    return answers


@pytest.mark.parametrize("precision", MADE)
def test_each_file_has_its_meaning_recorded_with_a_measured_tolerance(
    bundle: Bundle, inputs: Images, precision: str
) -> None:
    expected = read_expectation(bundle.file(f"golden.{precision}"))
    meant = written(bundle.file(f"model.{precision}"), inputs)
    assert np.abs(expected.outputs - meant).max() < 1e-4
    assert expected.tolerance >= 4 * max(expected.spread.values())
    assert expected.tolerance >= 0.02 * np.abs(meant).max()
    assert expected.tolerance < 0.1 * np.abs(meant).max()
    assert any("fused" in way for way in expected.spread)
    assert any("one by one" in way for way in expected.spread)


def test_a_file_runs_on_all_images_in_two_ways_and_on_few_in_others(bundle: Bundle, inputs: Images) -> None:
    path = bundle.file("model.int8")
    meant, tolerance = written(path, inputs), read_expectation(bundle.file("golden.int8")).tolerance
    ran = [*expectations._run_in_all_ways(path, "int8", inputs)]
    assert [way for way, rows, _ in ran if len(rows) == len(inputs)] == ["as written, 2 threads", "fused, 2 threads"]
    assert len({way for way, *_ in ran}) == 8
    for _, rows, given in ran:
        assert len(rows) in (4, len(inputs))
        assert (rows[0], rows[-1]) == (0, len(inputs) - 1)
        assert np.abs(given - meant[rows]).max() <= tolerance


def test_the_mixed_file_is_judged_as_it_is_written(bundle: Bundle, inputs: Images) -> None:
    path = bundle.file(f"model.{MIXED}")
    meant = written(path, inputs)
    assert np.abs(fused(path, inputs) - meant).max() > 1e-3  # what ONNX Runtime's fusion does to it
    with open_session(bundle, precision=MIXED, threads=1) as session:
        assert session.int8_kernels == "unfused"
        assert np.abs(logits_of(session, inputs) - meant).max() < 1e-4
    steps = {step["stage"]: step for step in read_ledger(bundle)["steps"]}
    assert steps[MIXED]["judged"].startswith(f"model.{MIXED}.onnx mixes INT8 and FP16 for TensorRT.")
    assert all("judged" not in step for name, step in steps.items() if name != MIXED)


def test_other_golden_inputs_are_a_reason_to_calibrate_again(
    bundle: Bundle, training: ImageSet, inputs: Images, tmp_path: Path
) -> None:
    started = float_bundle(tmp_path / "bundle")
    without = calibrate(started, training, CONFIG)
    assert not any(role.startswith("golden") for role in without.manifest["files"])
    again = calibrate(with_golden(without, inputs[:5]), training, CONFIG)
    assert all(again.has(f"golden.{precision}") for precision in MADE)
    recorded = again.file("golden.int8").stat().st_mtime_ns
    assert calibrate(again, training, CONFIG).file("golden.int8").stat().st_mtime_ns == recorded  # nothing to do
    only_int8 = calibrate(again, training, replace(CONFIG, fp16=False))
    assert [role for role in only_int8.manifest["files"] if role.startswith("golden.")] == [
        "golden.int8",
        "golden.int8-tensorrt",
    ]


def step(stage: str, sqnr_db: float | None, agreement: float) -> LedgerStep:
    figures = Figures(sample_count=100, accuracy=0.9, agreement=agreement, sqnr_db=sqnr_db)
    return LedgerStep(stage=stage, model_sha256="0" * 64, figures=figures)


def test_a_file_far_below_its_neighbour_is_named_with_both_figures() -> None:
    steps = [step("fp32", None, 1.0), step("int8-tensorrt", 15.0, 0.91), step(MIXED, 0.8, 0.07)]
    (sentence,) = far_below_neighbours(steps)
    assert sentence == (
        "model.int8-fp16-tensorrt.onnx lies far below model.int8-tensorrt.onnx: 0.8 dB and 7.0% agreement with the "
        "float model, against 15.0 dB and 91.0%. Before you deploy it, see where they part: edgedistill validate "
        "BUNDLE --bisect --precision int8-fp16-tensorrt."
    )


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([step("fp16", 60.0, 1.0), step("int8", 20.0, 0.98)], []),
        ([step("fp16", 12.0, 0.98), step("int8", 19.0, 0.98)], ["fp16"]),
        ([step("int8", 30.0, 0.99), step("int8-tensorrt", 22.0, 0.99)], []),  # both are good
        ([step("int8", 17.0, 0.99), step("int8-tensorrt", 17.0, 0.93)], ["int8-tensorrt"]),
        ([step("int8", 10.0, 0.9), step("int8-tensorrt", 17.0, 0.9)], ["int8"]),
        ([step("int8", 3.0, 0.5)], []),  # no neighbour to compare with
        ([step("fp16", None, 1.0), step("int8", None, 1.0)], []),
    ],
)
def test_which_files_lie_far_below(steps: list[LedgerStep], named: list[str]) -> None:
    found = far_below_neighbours(steps)
    assert [sentence.split()[0] for sentence in found] == [f"model.{name}.onnx" for name in named]
