"""A bundle's INT8 files: what is in them, how close they are to the float model, and what is recorded about them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_calibration.dataset import select_calibration
from edgedistill_calibration.int8.files import Candidate
from edgedistill_calibration.judging.ledger import Figures
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import Reference, write_reference
from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model
from reference.as_written import open_as_written
from reference.fitted_networks import CLASS_NAMES, METADATA, SIZE, shape_images, write_network
from reference.qdq import QdqGraph
from reference.shape_bundles import empty_bundle, float_bundle, labelled

SMALL = CalibrationConfig(
    images=64, held_out=64, method="minmax", profile="x86", max_drop=0.5, fp16=False, ledger_nodes=0
)
WRITTEN = ("model.int8", "model.int8-tensorrt")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """600 training images of the shapes."""
    return labelled(tmp_path_factory.mktemp("training") / "shapes.npz", *shape_images(150, seed=1))


@pytest.fixture(scope="module")
def unseen() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """600 images of the shapes that nothing was trained or calibrated on."""
    return shape_images(150, seed=2)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, training: ImageSet) -> Bundle:
    """A bundle calibrated on 256 images for x86."""
    bundle = float_bundle(tmp_path_factory.mktemp("calibrated") / "bundle")
    return calibrate(bundle, training, replace(SMALL, images=256, held_out=256))


def logits_of_file(path: Path, images: NDArray[np.uint8], batch_size: int = 100) -> NDArray[np.float32]:
    session = open_as_written(path)
    rows = [
        session.run(["logits"], {"image": images[start : start + batch_size]})[0]
        for start in range(0, len(images), batch_size)
    ]
    return np.concatenate(rows)


def agreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.mean(one.argmax(axis=1) == other.argmax(axis=1)))


def sqnr_db(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.sum(reference**2) / np.sum((reference - other) ** 2)))


# How close


@pytest.mark.parametrize("role", WRITTEN)
def test_int8_answers_as_the_float_model_on_images_it_never_saw(
    role: str, calibrated: Bundle, unseen: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    images, labels = unseen
    wanted = logits_of_file(calibrated.file("model.fp32"), images)
    given = logits_of_file(calibrated.file(role), images)
    accuracy = float(np.mean(wanted.argmax(axis=1) == labels))
    assert accuracy > 0.9  # the network classifies, so agreement means something
    assert agreement(given, wanted) >= 0.97
    assert np.mean(given.argmax(axis=1) == labels) > accuracy - 0.02
    assert sqnr_db(wanted, given) > 25


@pytest.mark.parametrize("role", WRITTEN)
def test_a_session_computes_what_the_file_means_on_this_processor(
    role: str, calibrated: Bundle, unseen: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    images, _ = unseen
    meant = logits_of_file(calibrated.file(role), images)
    with open_model(calibrated.file(role), precision=role.removeprefix("model.")) as session:
        assert sqnr_db(meant, logits_of(session, images)) > 35
        assert session.int8_kernels in ("exact", "made_exact")


def test_the_profile_for_arm_agrees_too(
    tmp_path: Path, training: ImageSet, unseen: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    images, _ = unseen
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, replace(SMALL, profile="arm"))
    wanted = logits_of_file(bundle.file("model.fp32"), images)
    assert agreement(logits_of_file(bundle.file("model.int8"), images), wanted) >= 0.97


@pytest.mark.parametrize("role", WRITTEN)
def test_one_image_at_a_time_gives_what_a_batch_gives(role: str, calibrated: Bundle) -> None:
    images, _ = shape_images(3, seed=9)
    path = calibrated.file(role)
    np.testing.assert_allclose(logits_of_file(path, images, 1), logits_of_file(path, images, 12), rtol=1e-4, atol=1e-3)


def test_noise_calibrates_to_another_and_worse_model(
    tmp_path: Path, calibrated: Bundle, training: ImageSet, unseen: tuple[NDArray[np.uint8], NDArray[np.int64]]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, SIZE, SIZE, 3), dtype=np.uint8)
    made_up = labelled(tmp_path / "noise.npz", noise, training.labels)
    bundle = calibrate(float_bundle(tmp_path / "bundle"), made_up, replace(SMALL, images=256))
    images, _ = unseen
    wanted = logits_of_file(bundle.file("model.fp32"), images)
    worse, better = (sqnr_db(wanted, logits_of_file(each.file("model.int8"), images)) for each in (bundle, calibrated))
    assert worse < better - 3


# What is in the files


@pytest.mark.parametrize("role", WRITTEN)
def test_every_weight_is_int8_with_a_scale_for_each_output_channel(role: str, calibrated: Bundle) -> None:
    graph = QdqGraph(calibrated.file(role))
    weighted = list(graph.of("Conv", "Gemm", "MatMul"))
    assert len(weighted) == 8
    for node in weighted:
        weight = graph.dequantised(node.input[1])
        assert weight is not None
        assert weight.stored is not None
        assert weight.stored.dtype == np.int8
        assert weight.axis == 0
        assert weight.scale.shape == weight.zero_point.shape == weight.stored.shape[:1]
        assert not weight.zero_point.any()
        assert graph.dequantised(node.input[0]) is not None


def test_weights_use_all_eight_bits_and_a_retired_profile_gives_the_same_file(
    tmp_path: Path, training: ImageSet
) -> None:
    made = {
        profile: calibrate(float_bundle(tmp_path / profile), training, replace(SMALL, held_out=16, profile=profile))
        for profile in ("x86", "x86-no-vnni")
    }
    graph = QdqGraph(made["x86"].file("model.int8"))
    weights = [graph.dequantised(node.input[1]) for node in graph.of("Conv", "Gemm")]
    assert max(int(np.abs(each.stored).max()) for each in weights if each and each.stored is not None) == 127
    graphs = [onnx.load(bundle.file("model.int8")).graph for bundle in made.values()]
    assert graphs[0] == graphs[1]
    (note,) = set(made["x86-no-vnni"].manifest["calibration"]["notes"]) - set(
        made["x86"].manifest["calibration"]["notes"]
    )
    assert note.startswith("The profile x86-no-vnni is retired, and x86 was taken")


def activation_types(path: Path) -> set[str]:
    graph = QdqGraph(path)
    return {str(graph.constants[node.input[2]].dtype) for node in graph.of("QuantizeLinear")}


def test_activations_are_unsigned_for_x86_and_signed_for_arm_and_tensorrt(
    tmp_path: Path, calibrated: Bundle, training: ImageSet
) -> None:
    config = replace(SMALL, held_out=16, profile="arm")
    arm = calibrate(float_bundle(tmp_path / "bundle"), training, config)
    assert activation_types(calibrated.file("model.int8")) == {"uint8"}
    assert activation_types(arm.file("model.int8")) == {"int8"}
    assert activation_types(calibrated.file("model.int8-tensorrt")) == {"int8"}


def test_tensorrt_gets_zero_point_zero_everywhere_and_float_biases(calibrated: Bundle) -> None:
    graph = QdqGraph(calibrated.file("model.int8-tensorrt"))
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        zero_point = graph.constants[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()
    assert not any(array.dtype == np.int32 for array in graph.constants.values())
    for node in graph.of("Conv", "Gemm"):
        assert graph.constants[node.input[2]].dtype == np.float32


def test_tensorrt_can_fuse_conv_relu_and_residual_adds(calibrated: Bundle) -> None:
    graph = QdqGraph(calibrated.file("model.int8-tensorrt"))
    for node in graph.of("Conv"):
        following = {reader.op_type for reader in graph.readers(node.output[0])}
        # The Add reads the convolution on the shortcut in INT8, and the one on the longer branch in float.
        wanted = {"QuantizeLinear"} if node.name == "shortcut" else {"Relu", "Add"}
        assert len(following) == 1
        assert following <= wanted
    adds = [node for node in graph.of("Add") if "Conv" in graph.upstream(node.output[0])]
    assert len(adds) == 2
    for node in adds:
        assert [graph.dequantised(name) is not None for name in node.input].count(True) == 1


def test_the_shortcut_has_the_range_that_was_measured(calibrated: Bundle, training: ImageSet) -> None:
    graph = QdqGraph(calibrated.file("model.int8-tensorrt"))
    quantiser = next(node for node in graph.of("QuantizeLinear") if node.input[0] == "shortcut")
    model = onnx.load(calibrated.file("model.fp32"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("shortcut", onnx.TensorProto.FLOAT, None))
    chosen = select_calibration(training, 256, 0, held_out=256).images
    images = np.stack([np.asarray(chosen.read(index)) for index in range(len(chosen))])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (values,) = session.run(["shortcut"], {"image": images})
    assert graph.constants[quantiser.input[1]] == pytest.approx(np.abs(values).max() / 127, rel=1e-5)


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_onnx_runtime_file_has_no_relu_left_that_a_zero_point_does(
    activation: str, tmp_path: Path, training: ImageSet
) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle", activation=activation), training, SMALL)
    graph = QdqGraph(bundle.file("model.int8"))
    # Two are left: those after the residual Adds, which stay in float.
    assert len(list(graph.of(activation))) == 2
    assert {graph.makers[node.input[0]].op_type for node in graph.of(activation)} == {"Add"}


@pytest.mark.parametrize("role", WRITTEN)
def test_pixels_are_normalised_in_float_before_the_first_conv(role: str, calibrated: Bundle) -> None:
    graph = QdqGraph(calibrated.file(role))
    first = next(graph.of("Conv"))
    network_input = graph.source(first.input[0])
    assert network_input != first.input[0]
    assert graph.upstream(network_input) - {"Reshape"} == {"Transpose", "Cast", "Mul", "Add"}


def test_a_clip_of_the_pixels_is_not_taken_for_an_activation(tmp_path: Path, training: ImageSet) -> None:
    bundle = float_bundle(tmp_path / "bundle", activation="Clip")
    path = bundle.file("model.fp32")
    model = onnx.load(path)
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    bounds = next(node for node in model.graph.node if node.op_type == "Clip").input[1:]
    clip = onnx.helper.make_node("Clip", ["unclipped", *bounds], [cast.output[0]], name="pixel_clip")
    cast.output[0] = "unclipped"
    model.graph.node.insert(2, clip)
    onnx.save(model, path)
    bundle = calibrate(bundle.with_file("model.fp32", path), training, SMALL)
    for role in WRITTEN:
        graph = QdqGraph(bundle.file(role))
        assert "QuantizeLinear" not in graph.upstream(graph.source(next(graph.of("Conv")).input[0]))


@pytest.mark.parametrize("role", WRITTEN)
def test_logits_are_not_quantised(role: str, calibrated: Bundle) -> None:
    graph = QdqGraph(calibrated.file(role))
    assert graph.makers["logits"].op_type == "Gemm"


@pytest.mark.parametrize("role", WRITTEN)
def test_interface_metadata_and_versions_are_those_of_the_float_model(role: str, calibrated: Bundle) -> None:
    model, source = onnx.load(calibrated.file(role)), onnx.load(calibrated.file("model.fp32"))
    onnx.checker.check_model(str(calibrated.file(role)), full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    assert model.ir_version == source.ir_version
    assert {node.domain for node in model.graph.node} == {""}
    assert list(model.graph.input) == list(source.graph.input)
    assert list(model.graph.output) == list(source.graph.output)
    metadata = {each.key: each.value for each in model.metadata_props}
    assert metadata == {
        **METADATA,
        "edgedistill.calibration": calibrated.manifest["calibration"]["key"],
        "edgedistill.ranges": "minmax",
    }


def test_weights_take_a_quarter_of_the_room(calibrated: Bundle) -> None:
    whole = calibrated.file("model.fp32").stat().st_size
    weights = sum(int(np.prod(each.dims)) for each in onnx.load(calibrated.file("model.fp32")).graph.initializer)
    for role in WRITTEN:
        # A network of 20,000 weights: what Q/DQ nodes take counts.
        assert calibrated.file(role).stat().st_size < whole - 2 * weights


# What is recorded


def test_the_manifest_says_what_was_done(calibrated: Bundle, training: ImageSet) -> None:
    record = open_bundle(calibrated.path).manifest["calibration"]
    chosen = select_calibration(training, 256, 0, held_out=256)
    assert record["key"] == chosen.key(calibrated.preprocess)
    assert record["model_sha256"] == calibrated.model_sha256("model.fp32")
    assert (record["image_count"], record["held_out_count"]) == (256, 256)
    assert record["per_class"] == dict.fromkeys(CLASS_NAMES, 64)
    assert record["method"] == "minmax"
    assert record["settings"]["profile"] == "x86"
    assert record["versions"]["onnxruntime"] == onnxruntime.__version__
    assert record["notes"] == []


def test_the_ledger_has_the_figures_of_the_files_themselves(calibrated: Bundle, training: ImageSet) -> None:
    ledger = json.loads(calibrated.file("ledger").read_text())
    assert (ledger["kind"], ledger["schema"]) == ("ledger", 1)
    held_out = select_calibration(training, 256, 0, held_out=256).held_out
    images = np.stack([np.asarray(held_out.read(index)) for index in range(len(held_out))])
    wanted = logits_of_file(calibrated.file("model.fp32"), images)
    assert [step["stage"] for step in ledger["steps"]] == ["fp32", "int8", "int8-tensorrt"]
    for step in ledger["steps"]:
        role = f"model.{step['stage']}"
        given = logits_of_file(calibrated.file(role), images)
        assert step["model_sha256"] == calibrated.model_sha256(role)
        assert step["sample_count"] == 256
        assert step["accuracy"] == pytest.approx(np.mean(given.argmax(axis=1) == held_out.labels), abs=0.005)
        assert step["agreement"] == pytest.approx(agreement(given, wanted), abs=0.005)
        if step["stage"] == "fp32":
            assert (step["agreement"], step["sqnr_db"]) == (1.0, None)
        else:
            assert step["sqnr_db"] == pytest.approx(sqnr_db(wanted, given), abs=0.1)


def test_auto_tries_everything_and_keeps_the_best(tmp_path: Path, training: ImageSet) -> None:
    config = replace(SMALL, held_out=128, method="auto")
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, config)
    record = bundle.manifest["calibration"]
    tried = {each["method"]: each for each in record["candidates"]}
    assert list(tried) == ["minmax", "moving-average", "percentile-99.999", "percentile-99.99", "least-squares"]
    assert len({each["int8"]["sqnr_db"] for each in tried.values()}) == 5
    worst = {
        method: min((each[name]["agreement"], each[name]["sqnr_db"]) for name in ("int8", "int8-tensorrt"))
        for method, each in tried.items()
    }
    assert record["method"] == max(worst, key=lambda method: worst[method])
    metadata = {each.key: each.value for each in onnx.load(bundle.file("model.int8")).metadata_props}
    assert metadata["edgedistill.ranges"] == record["method"]
    steps = json.loads(bundle.file("ledger").read_text())["steps"]
    assert steps[1]["sqnr_db"] == tried[record["method"]]["int8"]["sqnr_db"]


def test_a_candidate_is_worth_what_its_worse_file_is() -> None:
    figures = {
        name: Figures(sample_count=10, accuracy=0.5, agreement=agreement, sqnr_db=30.0)
        for name, agreement in (("fp32", 1.0), ("int8", 0.99), ("int8-tensorrt", 0.9))
    }
    files = {name: Path(name) for name in ("int8", "int8-tensorrt")}
    assert Candidate(method="minmax", files=files, figures=figures).rank == (0.9, 30.0)


def test_a_model_that_suffers_is_noted(tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill_calibration.quantize.LOW_AGREEMENT", 1.1)
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)
    notes = bundle.manifest["calibration"]["notes"]
    assert "Ranges were measured on 64 images" in notes[0]
    assert [note.split(" ")[0] for note in notes[1:]] == ["model.int8.onnx", "model.int8-tensorrt.onnx"]
    assert "and the float model agree on" in notes[1]


# Which images are used


@dataclass(frozen=True)
class Watched:
    """An image set that notes the digest of every image it reads."""

    inner: ImageSet
    read_digests: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.inner.class_names

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.inner.labels

    def __len__(self) -> int:
        return len(self.inner)

    def read(self, index: int) -> Image.Image:
        self.read_digests.append(self.inner.digest(index))
        return self.inner.read(index)

    def digest(self, index: int) -> str:
        return self.inner.digest(index)

    def name(self, index: int) -> str:
        return self.inner.name(index)

    def select(self, indices: Any) -> "Watched":
        return Watched(self.inner.select(indices), self.read_digests)

    def with_classes(self, class_names: Sequence[str]) -> "Watched":
        return Watched(self.inner.with_classes(class_names), self.read_digests)

    def rename_classes(self, class_names: Sequence[str]) -> "Watched":
        return Watched(self.inner.rename_classes(class_names), self.read_digests)


def digests_of(images: ImageSet) -> list[str]:
    return [images.digest(index) for index in range(len(images))]


def test_the_images_that_judge_the_student_are_never_read(tmp_path: Path, training: ImageSet) -> None:
    judged = digests_of(training)[:200]
    bundle = float_bundle(tmp_path / "bundle")
    reference = Reference(
        logits=np.zeros((200, 4), np.float32),
        labels=training.labels[:200],
        digests=np.array(judged),
        images=None,
        image_index=np.zeros(0, np.int64),
    )
    write_reference(bundle.path / "reference.npz", reference)
    watched = Watched(training)
    bundle = calibrate(bundle.with_file("reference", bundle.path / "reference.npz"), watched, SMALL)
    assert watched.read_digests
    assert not set(watched.read_digests) & set(judged)
    assert set(watched.read_digests) <= set(digests_of(training))
    assert any(
        note.startswith("The student is judged on 200 of the training images")
        for note in bundle.manifest["calibration"]["notes"]
    )


def test_each_image_is_read_once_and_never_to_calibrate_and_to_judge(tmp_path: Path, training: ImageSet) -> None:
    watched = Watched(training)
    calibrate(float_bundle(tmp_path / "bundle"), watched, SMALL)
    assert len(watched.read_digests) == len(set(watched.read_digests)) == 128


def test_classes_of_no_interest_are_ignored_and_order_does_not_matter(
    tmp_path: Path, training: ImageSet, calibrated: Bundle
) -> None:
    more = tmp_path / "more.npz"
    images, labels = shape_images(150, seed=1)
    extra = np.random.default_rng(0).integers(0, 256, (50, SIZE, SIZE, 3), dtype=np.uint8)
    names = ("zigzag", *CLASS_NAMES[::-1])
    np.savez(
        more,
        images=np.concatenate([extra, images[::-1]]),
        labels=np.concatenate([np.zeros(50, np.int64), 4 - labels[::-1]]),
        class_names=np.array(names),
    )
    config = replace(SMALL, images=256, held_out=256)
    bundle = calibrate(float_bundle(tmp_path / "bundle"), open_images(f"npz:{more}").train, config)
    for role in WRITTEN:
        assert bundle.model_sha256(role) == calibrated.model_sha256(role)
    assert bundle.manifest["calibration"] == calibrated.manifest["calibration"]


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_progress_names_each_phase_and_is_done_once_at_the_end(method: str, tmp_path: Path, training: ImageSet) -> None:
    seen: list[tuple[int, int, str]] = []
    config = replace(SMALL, method=method, fp16=True, ledger_nodes=4)
    calibrate(float_bundle(tmp_path / "bundle"), training, config, lambda *at: seen.append(at))
    shares = [done / total for done, total, _ in seen]
    assert shares == sorted(shares)
    assert [place for place, share in enumerate(shares) if share == 1] == [len(seen) - 1]
    assert list(dict.fromkeys(note for *_, note in seen[:-1])) == [
        "ranges", "writing candidates", "comparing ranges", "nodes one by one",
        "FP16 files", "judging the files", "recording their outputs",
    ]  # fmt: skip


# Again


def test_the_same_calibration_again_reads_no_image(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)
    stamps = [bundle.file(role).stat().st_mtime_ns for role in WRITTEN]
    watched = Watched(training)
    again = calibrate(bundle, watched, SMALL)
    assert watched.read_digests == []
    assert again.manifest == bundle.manifest
    assert [bundle.file(role).stat().st_mtime_ns for role in WRITTEN] == stamps


@pytest.mark.parametrize("name", ["model.int8.onnx", "model.int8-tensorrt.onnx", "ledger.json"])
def test_a_damaged_file_is_made_anew(name: str, tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)
    whole = (bundle.path / name).read_bytes()
    (bundle.path / name).write_bytes(b"damaged")
    calibrate(bundle, training, SMALL)
    assert (bundle.path / name).read_bytes() == whole


def test_an_interrupted_calibration_does_not_pass_for_the_one_before(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)
    wanted = bundle.model_sha256("model.int8")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedistill_calibration.quantize.write_ledger", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(bundle, training, replace(SMALL, profile="arm"))
    monkeypatch.undo()
    left = open_bundle(bundle.path)
    assert left.model_sha256("model.int8") != wanted
    assert calibrate(left, training, SMALL).model_sha256("model.int8") == wanted


def test_another_seed_or_model_calibrates_anew(tmp_path: Path, training: ImageSet) -> None:
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)
    key = bundle.manifest["calibration"]["key"]
    seeded = replace(SMALL, seed=1)
    bundle = calibrate(bundle, training, seeded)
    assert bundle.manifest["calibration"]["key"] != key
    path = write_network(bundle.path / "model.fp32.onnx", activation="Clip")
    bundle = calibrate(bundle.with_file("model.fp32", path), training, seeded)
    assert "Clip" in {node.op_type for node in onnx.load(bundle.file("model.int8")).graph.node}


def test_fp16_files_of_an_earlier_calibration_do_not_outlast_it(tmp_path: Path, training: ImageSet) -> None:
    float16_files = ("model.fp16", "model.int8-fp16-tensorrt")
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, replace(SMALL, fp16=True))
    stages = [step["stage"] for step in json.loads(bundle.file("ledger").read_text())["steps"]]
    assert stages == ["fp32", "fp16", "int8", "int8-tensorrt", "int8-fp16-tensorrt"]
    assert all(bundle.has(role) for role in float16_files)
    bundle = calibrate(bundle, training, SMALL)
    assert not any(bundle.has(role) for role in float16_files)


def test_an_fp16_file_that_is_refused_is_left_out_with_the_reason(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise EdgeDistillError("nothing in it can be FP16.")

    monkeypatch.setattr("edgedistill_calibration.float16.files.write_float16", refused)
    bundle = calibrate(float_bundle(tmp_path / "bundle"), training, replace(SMALL, fp16=True))
    assert not bundle.has("model.fp16")
    assert bundle.has("model.int8-tensorrt")
    left_out = json.loads(bundle.file("ledger").read_text())["left_out"]
    assert left_out["fp16"] == left_out["int8-fp16-tensorrt"] == "nothing in it can be FP16."
    assert "There is no file of precision fp16: nothing in it can be FP16." in bundle.manifest["calibration"]["notes"]


# What is refused


def test_a_bundle_without_a_float_model_is_refused(tmp_path: Path, training: ImageSet) -> None:
    with pytest.raises(BundleError, match=r"has no model\.fp32"):
        calibrate(empty_bundle(tmp_path / "bundle"), training, SMALL)


def test_images_without_a_class_of_the_bundle_are_refused(tmp_path: Path, training: ImageSet) -> None:
    with pytest.raises(UsageError, match="cross"):
        calibrate(float_bundle(tmp_path / "bundle"), training.with_classes(CLASS_NAMES[:3]), SMALL)


def test_toy_data_is_refused(tmp_path: Path, training: ImageSet) -> None:
    few = training.select(range(16))
    with pytest.raises(DataError, match="at least 5 different training images of every class, and 'disc' has 4"):
        calibrate(float_bundle(tmp_path / "bundle"), few, SMALL)


def test_a_missing_library_is_named_with_the_command_that_installs_it(
    tmp_path: Path, training: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingDependencyError, match=r"Calibration needs onnx, .*pip install 'edgedistill\[quantize\]'"
    ):
        calibrate(float_bundle(tmp_path / "bundle"), training, SMALL)


def test_a_model_that_takes_floats_is_refused(tmp_path: Path, training: ImageSet) -> None:
    bundle = float_bundle(tmp_path / "bundle")
    path = bundle.file("model.fp32")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, path)
    with pytest.raises(BundleError, match=r"takes image \(float\); a bundle's model takes image \(uint8\) alone"):
        calibrate(bundle.with_file("model.fp32", path), training, SMALL)
