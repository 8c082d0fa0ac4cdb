"""Files for images of any size: the graph prepares as Pillow does, and the answers are those of the model."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from edgedistill.export import any_size
from edgedistill.export.any_size import SOURCE, write_any_size
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.preprocess import INTERPOLATIONS, RESIZE_MODES, Preprocess
from edgedistill_deploy.prediction.expert import Expert
from edgedistill_deploy.runtimes.opening import open_session
from reference.colour_bundles import colour_bundle
from reference.colour_pictures import add_decision, changed, picture

SIZES = ((37, 53), (120, 160), (93, 31), (8, 8), (16, 16), (12, 90), (1, 1), (3, 2), (29, 28))


def noise(height: int, width: int) -> Image.Image:
    """Return a picture whose every pixel matters, with large patches of black and white, where filters overshoot."""
    random = np.random.default_rng(height * 1000 + width)
    values = random.normal(128, 120, (height, width, 3)) + 200 * np.sin(np.arange(width) / 5)[:, None]
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def with_preprocess(folder: Path, preprocess: Preprocess) -> Bundle:
    bundle = colour_bundle(folder, 12)
    return bundle.with_fields(preprocess={**preprocess.to_json(), "digest": preprocess.digest})


def run_alone(path: Path, *images: Image.Image) -> list[dict[str, NDArray[Any]]]:
    """Run a file as another program does: with ONNX Runtime alone, on decoded pictures."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]
    return [dict(zip(names, session.run(None, {"image": np.asarray(each)[None]}), strict=True)) for each in images]


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("mode", "crop"), list(zip(RESIZE_MODES, (0.7, 1.0), strict=True)))
def test_every_filter_scales_and_cuts_as_pillow_does(
    tmp_path: Path, interpolation: str, mode: str, crop: float
) -> None:
    preprocess = Preprocess(size=(8, 8), resize_mode=mode, crop_fraction=crop, interpolation=interpolation)
    images = [noise(*size) for size in SIZES]
    bundle = write_any_size(with_preprocess(tmp_path / "colours", preprocess), images)
    record = bundle.manifest["any_size"]["fp32"]
    assert record["largest_difference"] <= 1
    assert (record["image_count"], record["same_class_count"]) == (len(SIZES), len(SIZES))
    given = run_alone(bundle.path / "model.fp32-any-size.onnx", *images)
    with Expert(bundle, precision="fp32") as expert:
        for one, other in zip(given, expert.predict(images), strict=True):
            assert one["logits"][0] == pytest.approx(other.logits, abs=2e-2)


def test_each_file_for_onnx_runtime_gets_one_and_keeps_its_outputs(tmp_path: Path) -> None:
    bundle = changed(colour_bundle(tmp_path / "colours", 12), add_decision)
    for role in ("model.int8", "model.int8-tensorrt", "teacher.fp32"):
        path = bundle.path / f"{role}.onnx"
        path.write_bytes((bundle.path / "model.fp32.onnx").read_bytes())
        bundle = bundle.with_file(role, path)
    before = bundle.precisions
    bundle = write_any_size(bundle, [picture("red", (60, 40))])
    written = {path.name for path in bundle.path.glob("*any-size*")}
    assert written == {"model.fp32-any-size.onnx", "model.int8-any-size.onnx"}
    opened = open_bundle(bundle.path)  # every hash is checked
    assert opened.precisions == before
    model = onnx.load(opened.file("model.int8-any-size"))
    onnx.checker.check_model(model, full_check=True)
    assert {each.key: each.value for each in model.metadata_props}[SOURCE] == bundle.model_sha256("model.int8")
    (answer,) = run_alone(opened.file("model.int8-any-size"), picture("green", (31, 77)))
    assert (answer["logits"].shape, answer["in_domain"].shape) == ((1, 3), (1,))
    with Expert(opened) as expert:
        assert expert.predict(picture("green", (31, 77))).class_name == "green"
        assert expert.class_names[int(answer["logits"].argmax())] == "green"


def test_a_model_with_its_weights_beside_it_keeps_them_there(tmp_path: Path) -> None:
    bundle = colour_bundle(tmp_path / "colours", 12)
    path = bundle.path / "model.fp32.onnx"
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="model.fp32.onnx.data", size_threshold=0)
    bundle = bundle.with_file("model.fp32", path).with_file("model.fp32.data", bundle.path / "model.fp32.onnx.data")
    bundle = write_any_size(bundle, [picture("red", (60, 40))])
    (answer,) = run_alone(bundle.file("model.fp32-any-size"), picture("yellow", (20, 90)))
    assert int(answer["logits"].argmax()) == 2
    with open_session(bundle) as session:
        assert session.outputs[0].name == "logits"


@pytest.mark.parametrize(
    ("name", "limit", "sentence"),
    [
        ("MOST_LEVELS", -1, "a pixel of 1 images comes out 0 levels from Pillow, and -1 are allowed (filter bilinear)"),
        ("MOST_PROBABILITY", -1.0, "gives a class a probability that is 0.000 from that of model.fp32.onnx"),
    ],
)
def test_a_file_that_differs_by_too_much_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: float, sentence: str
) -> None:
    monkeypatch.setattr(any_size, name, limit)
    bundle = colour_bundle(tmp_path / "colours", 12)
    files = sorted(bundle.path.iterdir())
    with pytest.raises(EdgeDistillError) as caught:
        write_any_size(bundle, [picture("red", (60, 40))])
    assert sentence in str(caught.value)
    assert sorted(bundle.path.iterdir()) == files
    assert "any_size" not in open_bundle(bundle.path).manifest
