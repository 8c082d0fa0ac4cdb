"""A timm network as the exporter writes it, calibrated and judged on images of its own task."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgedistill.export.bundle import Deployed, write_onnx
from edgedistill.models.teacher import load_teacher
from edgedistill_calibration import CalibrationConfig, calibrate
from edgedistill_deploy.bundle.folder import Bundle, create_bundle
from edgedistill_deploy.diagnosis._input_faults import read_pixel_range
from edgedistill_deploy.images.sets import ImageSplits, batches
from edgedistill_deploy.images.sources import open_images
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_session
from reference.qdq import QdqGraph

DIGITS = tuple("0123456789")
EMBEDDED = Path(__file__).resolve().parents[2] / "edgedistill" / "embedded" / "digits.npz"


@pytest.fixture(scope="module")
def digits() -> ImageSplits:
    return open_images(f"npz:{EMBEDDED}")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, digits: ImageSplits) -> Bundle:
    """The embedded ResNet restricted to the ten digits, in a bundle, calibrated."""
    teacher = load_teacher("embedded:glyphs100")
    indices = tuple(teacher.class_names.index(name) for name in DIGITS)
    bundle = create_bundle(
        tmp_path_factory.mktemp("exported") / "bundle",
        subtask={"name": "digits", "class_names": list(DIGITS), "class_indices": list(indices)},
        preprocess=teacher.preprocess,
        teacher={"name": "none"},
        student={"name": "none"},
        provenance={},
    )
    path = bundle.path / "model.fp32.onnx"
    model = Deployed(teacher.model, teacher.normalise(), indices)
    write_onnx(model, teacher.preprocess.size, path, opset=20, metadata={"edgedistill.subtask": "digits"})
    config = CalibrationConfig(images=128, held_out=128, method="minmax", profile="x86", ledger_nodes=0)
    return calibrate(bundle.with_file("model.fp32", path), digits.train, config)


@pytest.mark.parametrize("precision", ["int8", "int8-tensorrt"])
def test_it_agrees_with_the_float_model_on_test_images(precision: str, exported: Bundle, digits: ImageSplits) -> None:
    assert digits.test is not None
    images = np.concatenate(list(batches(digits.test.select(range(0, len(digits.test), 5)), exported.preprocess, 64)))
    with open_session(exported) as fp32, open_session(exported, precision=precision) as int8:
        wanted, given = logits_of(fp32, images), logits_of(int8, images)
    assert np.mean(wanted.argmax(axis=1) == given.argmax(axis=1)) >= 0.97
    assert 10 * np.log10(np.sum(wanted**2) / np.sum((wanted - given) ** 2)) > 25


@pytest.mark.parametrize("precision", ["int8", "int8-tensorrt"])
def test_the_graph_is_plain_onnx_with_int8_weights(precision: str, exported: Bundle) -> None:
    graph = QdqGraph(exported.file(f"model.{precision}"))
    assert [(each.domain, each.version) for each in graph.model.opset_import] == [("", 20)]
    assert {each.key for each in graph.model.metadata_props} >= {"edgedistill.subtask", "edgedistill.calibration"}
    source = onnx.load(exported.file("model.fp32"))
    for node in graph.of("Conv", "Gemm"):
        weight = graph.dequantised(node.input[1])
        assert weight is not None
        assert weight.stored is not None
        assert weight.stored.dtype == np.int8
        assert weight.scale.size == weight.stored.shape[0]
    assert sum(node.op_type in ("Conv", "Gemm") for node in source.graph.node) == len(list(graph.of("Conv", "Gemm")))


def test_onnx_runtime_computes_every_convolution_in_int8(exported: Bundle, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(exported.file("model.int8")), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(exported.file("model.fp32")).graph.node)
    assert kinds.count("QLinearConv") == convolutions
    assert "Conv" not in kinds


def test_the_fp16_file_agrees_and_its_pixels_can_still_be_diagnosed(exported: Bundle, digits: ImageSplits) -> None:
    assert digits.test is not None
    images = next(batches(digits.test.select(range(64)), exported.preprocess, 64))
    with open_session(exported) as fp32, open_session(exported, precision="fp16") as fp16:
        wanted, given = logits_of(fp32, images), logits_of(fp16, images)
    assert 10 * np.log10(np.sum(wanted**2) / np.sum((wanted - given) ** 2)) > 45
    ranges = [read_pixel_range(exported.file(f"model.{each}"), images) for each in ("fp32", "fp16")]
    assert ranges[0] is not None
    assert ranges[1] is not None
    np.testing.assert_allclose(ranges[1].black, ranges[0].black, atol=0.01)
    np.testing.assert_allclose(ranges[1].white, ranges[0].white, atol=0.01)
