"""Recovery: torch computes what the INT8 file computes, and distilling on under it brings the accuracy back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgedistill.distillation.events import TrainingProgress, Watcher, ignore
from edgedistill.networks.tensor_calls import NETWORK_INPUT
from edgedistill.quantisation._int8_grids import read_rounding
from edgedistill.quantisation.fake_quantisation import FakeQuantised, find_calls
from edgedistill.quantisation.recovery import Recovered, RecoverySettings, export_recovered, measure_accuracy, recover
from edgedistill_calibration import CalibrationConfig, calibrate_recovered
from edgedistill_calibration.judging.ledger import read_ledger
from edgedistill_calibration.ranges.measurement import AS_TRAINED, read_ranges
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import BundleError, EdgeDistillError, UsageError
from edgedistill_deploy.images.sets import batches
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from reference.planted_students import SETTINGS, PlantedExpert

RATE = 5e-3


@pytest.fixture
def bundle(planted: PlantedExpert, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(planted.bundle.path, tmp_path / "bundle"))


def recovered_of(planted: PlantedExpert, bundle: Bundle, epochs: int, progress: Watcher = ignore) -> Recovered:
    settings = RecoverySettings(distilled=SETTINGS, epochs=epochs, learning_rate=RATE)
    return recover(bundle, planted.student(), planted.lesson, settings, bundle.path / "distill", progress=progress)


def samples_of(planted: PlantedExpert) -> np.ndarray:
    return np.concatenate(list(batches(planted.images.validation, planted.teacher.preprocess, 64)))


def fake_quantised(planted: PlantedExpert, bundle: Bundle) -> FakeQuantised:
    calls = find_calls(
        planted.student(),
        planted.teacher.normalise(),
        onnx.load(bundle.file("model.fp32")),
        read_rounding(bundle),
        samples_of(planted)[:2],
    )
    assert calls.left_float == ()
    return FakeQuantised(planted.student(), calls).eval()


def test_torch_under_quantisation_computes_what_the_int8_file_computes(planted: PlantedExpert, bundle: Bundle) -> None:
    samples = samples_of(planted)
    images = planted.teacher.normalise()(torch.from_numpy(samples))
    with torch.no_grad():
        mine = fake_quantised(planted, bundle)(images).numpy()
        exact = planted.student()(images).numpy()
    with open_model(bundle.file("model.int8"), precision="int8") as session:
        theirs = logits_of(session, samples)
    # INT8 is far from float here, and torch close to INT8: ties round either way, and a step of a coarse grid is large.
    lost, difference = np.abs(exact - theirs), np.abs(mine - theirs)
    assert lost.max() > 1
    assert difference.max() < 0.2 * lost.max()
    assert np.sqrt(np.square(difference).mean()) < 0.15 * np.sqrt(np.square(lost).mean())
    assert np.median(difference) < 0.05 * np.median(lost)
    assert np.mean(mine.argmax(1) == theirs.argmax(1)) > 0.98


def test_what_is_rounded_is_what_the_file_rounds(planted: PlantedExpert, bundle: Bundle) -> None:
    graph = onnx.load(bundle.file("model.int8")).graph
    stored = {each.name for each in graph.initializer}
    rounded = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in stored]
    rounding = read_rounding(bundle)
    assert len(rounding.activations) == len(rounded)
    values = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    for node in rounded:
        grid = rounding.activations[node.input[0].removesuffix("_QuantizeLinear_Input")]
        assert grid.scale == pytest.approx(float(values[node.input[1]]), rel=1e-5)
        assert grid.zero_point == int(values[node.input[2]])
        assert (grid.low, grid.high) == (0, 255)
    assert len(rounding.weights) == 9
    assert set(rounding.weights.values()) == {127}
    network = fake_quantised(planted, bundle)
    assert NETWORK_INPUT in network._rounding.activations
    assert len(network._rounding.weights) == 9


def test_the_gradient_is_the_identitys_inside_the_range_and_0_outside(planted: PlantedExpert, bundle: Bundle) -> None:
    network = fake_quantised(planted, bundle)
    images = torch.zeros(1, 3, 64, 64, requires_grad=True)
    far = torch.full((1, 3, 64, 64), 100.0, requires_grad=True)
    for each in (images, far):
        torch.autograd.backward(network(each).sum())
    assert images.grad is not None
    assert far.grad is not None
    assert images.grad.abs().sum() > 0
    assert far.grad.abs().sum() == 0


def test_recovery_brings_back_what_int8_lost(planted: PlantedExpert, bundle: Bundle) -> None:
    whole = measure_accuracy(planted.student(), planted.teacher, planted.images.validation)
    outcome = recovered_of(planted, bundle, 6)
    assert outcome.accuracy_before < whole - 0.1
    assert outcome.accuracy > outcome.accuracy_before + 0.1
    assert outcome.best_epoch is not None
    assert f"{outcome.accuracy:.2%} after 6 epochs" in outcome.sentences()[0]
    # The same layers, and the file that the weights were written to.
    again = planted.student()
    from safetensors.torch import load_file

    again.load_state_dict(load_file(outcome.path))
    path = bundle.path / "recovered.onnx"
    export_recovered(outcome, planted.teacher, bundle, path)
    own, new = onnx.load(bundle.file("model.fp32")), onnx.load(path)
    assert [(n.op_type, *n.input, *n.output) for n in new.graph.node] == [
        (n.op_type, *n.input, *n.output) for n in own.graph.node
    ]
    assert list(new.metadata_props) == list(own.metadata_props)
    rounding = read_rounding(bundle)
    # Quantised by calibration, it does better than what it came from, and is what the bundle keeps.
    before = bundle.model_sha256("model.int8")
    config = CalibrationConfig(images=100, method="minmax", profile="x86", fp16=False, ledger_nodes=0, max_drop=1.0)
    bundle = calibrate_recovered(bundle, path, planted.images.train, config)
    steps = {step["stage"]: step for step in read_ledger(bundle)["steps"]}
    assert steps["int8-recovered"]["accuracy"] > steps["int8"]["accuracy"] + 0.05
    assert steps["int8-recovered"]["kept"]
    assert bundle.model_sha256("model.int8") != before
    # What was promised in torch is kept on the device.
    with open_model(bundle.file("model.int8"), precision="int8") as session:
        answers = logits_of(session, samples_of(planted)).argmax(1)
    assert np.mean(answers == planted.images.validation.labels) > outcome.accuracy - 0.1
    # Recovering again would train within the same ranges, and so finds that it is done.
    assert read_rounding(bundle) == rounding


def test_a_stopped_recovery_goes_on_to_the_same_weights(planted: PlantedExpert, bundle: Bundle) -> None:
    def stop(at: TrainingProgress) -> None:
        if (at.phase, at.epoch) == ("training", 1):
            raise KeyboardInterrupt

    other = open_bundle(shutil.copytree(bundle.path, bundle.path.parent / "other"))
    with pytest.raises(KeyboardInterrupt):
        recovered_of(planted, other, 2, progress=stop)
    resumed = recovered_of(planted, other, 2)
    straight = recovered_of(planted, bundle, 2)
    assert resumed.to_json() == straight.to_json()
    for name, value in straight.student.state_dict().items():
        assert torch.equal(value, resumed.student.state_dict()[name])


def test_a_recovery_that_helps_nothing_gives_the_student_back(planted: PlantedExpert, bundle: Bundle) -> None:
    settings = RecoverySettings(distilled=replace(SETTINGS, lambda_layer=0.0), epochs=1, learning_rate=1e-12)
    outcome = recover(bundle, planted.student(), planted.lesson, settings, bundle.path / "distill")
    assert outcome.best_epoch is None
    assert "the student as it was kept" in outcome.sentences()[0]
    for name, value in planted.planted.items():
        assert torch.equal(value, outcome.student.state_dict()[name])


def test_nodes_left_in_float_are_trained_as_quantised(planted: PlantedExpert, bundle: Bundle) -> None:
    """Which is the point of it: afterwards they need no exception."""
    whole = read_rounding(bundle)
    path = bundle.file("model.int8")
    model, source = onnx.load(path), onnx.load(bundle.file("model.fp32"))
    node = [each for each in model.graph.node if each.op_type == "Conv"][4]
    made = next(each for each in source.graph.node if each.name == node.name)
    feeds = {each.output[0]: each for each in model.graph.node}
    for place, name in ((0, made.input[0]), (1, made.input[1])):
        assert feeds[node.input[place]].op_type == "DequantizeLinear"
        node.input[place] = name
    model.graph.initializer.append(next(w for w in source.graph.initializer if w.name == made.input[1]))
    onnx.helper.set_model_props(model, {"edgedistill.float_nodes": json.dumps([node.name])})
    onnx.save(model, path)
    bundle = bundle.with_file("model.int8", path)
    rounding = read_rounding(bundle)
    assert rounding.activations.keys() == whole.activations.keys()
    calls = find_calls(planted.student(), planted.teacher.normalise(), source, rounding, samples_of(planted)[:2])
    assert len(calls.weights) == 9


def test_a_value_without_a_counterpart_is_named_and_stays_float(planted: PlantedExpert, bundle: Bundle) -> None:
    rounding = read_rounding(bundle)
    grid = next(iter(rounding.activations.values()))
    more = replace(rounding, activations={**rounding.activations, "nowhere": grid})
    source = onnx.load(bundle.file("model.fp32"))
    calls = find_calls(planted.student(), planted.teacher.normalise(), source, more, samples_of(planted)[:2])
    assert calls.left_float == ("nowhere",)


def test_another_students_file_is_refused(planted: PlantedExpert, bundle: Bundle) -> None:
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 4))
    with pytest.raises(EdgeDistillError, match="INT8 model rounds, so that file is of another student"):
        find_calls(
            other,
            planted.teacher.normalise(),
            onnx.load(bundle.file("model.fp32")),
            read_rounding(bundle),
            samples_of(planted)[:2],
        )


def test_a_network_that_calls_otherwise_is_refused(planted: PlantedExpert, bundle: Bundle) -> None:
    network = fake_quantised(planted, bundle)
    network.network.get_submodule("stages.3").forward = lambda values: values
    with pytest.raises(EdgeDistillError, match="calls other functions in training than on sample images"):
        network(torch.zeros(1, 3, 64, 64))


def test_what_cannot_be_recovered_is_refused(planted: PlantedExpert, bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="at least 1 epoch, and 0 was given"):
        recovered_of(planted, bundle, 0)
    with pytest.raises(BundleError, match="has no subspaces"):
        recovered_of(planted, bundle.without_file("subspaces"), 1)
    shutil.copyfile(bundle.file("model.fp32"), bundle.path / "model.int8.onnx")
    floating = bundle.with_file("model.int8", bundle.path / "model.int8.onnx")
    with pytest.raises(BundleError, match="quantises nothing; calibrate the bundle again"):
        recovered_of(planted, floating, 1)


def test_ranges_of_something_else_are_refused(bundle: Bundle) -> None:
    path = bundle.file("ranges")
    assert set(read_ranges(path)) == {AS_TRAINED, f"{AS_TRAINED}-symmetric"}
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(BundleError, match="does not hold the ranges of a calibration"):
        read_ranges(path)
    bundle = bundle.with_file("ranges", path)
    with pytest.raises(BundleError, match="does not hold the ranges of a calibration"):
        read_rounding(bundle)
