import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.images.golden import device_preparation, make_golden_images, write_golden_images
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.parity.check import check_parity
from edgedistill_deploy.parity.consistency import check_consistency
from edgedistill_deploy.records.parity import NotChecked
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of
from reference.measured_models import CLASS_NAMES

CLASSES = [0, 1, 2] * 70


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A bundle with golden images, whose model names its classes and its preprocessing."""
    made, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    write_golden_images(made.path / "golden-images.npz", make_golden_images(made.preprocess))
    made = made.with_file("golden-images", made.path / "golden-images.npz")
    return with_metadata(made, class_names=json.dumps(CLASS_NAMES), preprocess=made.preprocess.digest)


def with_metadata(bundle: Bundle, **values: str) -> Bundle:
    path = bundle.path / "model.fp32.onnx"
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {f"edgedistill.{name}": value for name, value in values.items()})
    onnx.save(model, path)
    return bundle.with_file("model.fp32", path)


def checks_of(bundle: Bundle, **options: Any) -> dict[str, Any]:
    found = check_consistency(bundle, bundle.file("model.fp32"), "fp32", **options)
    return {check.name: check for check in found}


def test_a_consistent_bundle_passes_every_check(bundle: Bundle) -> None:
    checks = checks_of(bundle)
    assert set(checks) == {"preprocess_digest", "class_names", "precision_of_the_file", "golden_images"}
    assert all(check.passed for check in checks.values())
    assert "6 image files, decoded and scaled here" in checks["golden_images"].detail


def test_a_model_made_for_another_preprocessing_fails_by_name(bundle: Bundle) -> None:
    other = Preprocess(size=(4, 4), interpolation="bicubic")
    altered = with_metadata(bundle, preprocess=other.digest)
    check = checks_of(altered)["preprocess_digest"]
    assert not check.passed
    assert f"preprocessing {other.digest[:12]}, but the manifest describes" in check.detail
    with open_session(altered) as session:
        report = check_parity(altered, session)
    assert report.verdict == "fail"
    assert report.judgement.reasons[0].startswith("Check preprocess_digest does not hold. model.fp32.onnx was made for")
    assert report.accuracy.drop == 0.0


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        (["blue", "green", "red"], "says 'blue' where the manifest says 'red', .* in another order"),
        (["red", "green", "navy"], "'navy' where the manifest says 'blue'\\.$"),
        (["red", "green"], "names 2 classes, but the manifest 3"),
    ],
)
def test_class_names_that_differ_from_the_models_fail_by_name(bundle: Bundle, names: list[str], detail: str) -> None:
    check = checks_of(with_metadata(bundle, class_names=json.dumps(names)))["class_names"]
    assert not check.passed
    assert re.search(detail, check.detail)


@pytest.mark.parametrize("text", ["not JSON", "{}", "3"])
def test_unreadable_class_names_fail(bundle: Bundle, text: str) -> None:
    assert not checks_of(with_metadata(bundle, class_names=text))["class_names"].passed


def test_many_other_class_names_are_cut_short(tmp_path: Path) -> None:
    made, _ = bundle_of(tmp_path, [0, 1, 2], [0, 1, 2], [0, 1, 2])
    names = [f"class {index}" for index in range(9)]
    fields = {"name": "many", "class_names": names, "class_indices": list(range(9))}
    made = with_metadata(made.with_fields(subtask=fields), class_names=json.dumps(names[1:] + names[:1]))
    assert " and 4 more." in checks_of(made)["class_names"].detail


def test_a_device_that_prepares_otherwise_fails_by_name(bundle: Bundle) -> None:
    other = device_preparation(replace(bundle.preprocess, interpolation="nearest"))
    check = checks_of(bundle, prepare=other)["golden_images"]
    assert not check.passed
    assert "portrait.png differs by at most" in check.detail


def test_golden_images_of_another_contract_fail_the_verdict(bundle: Bundle) -> None:
    other = replace(bundle.preprocess, interpolation="nearest")
    write_golden_images(bundle.path / "golden-images.npz", make_golden_images(other))
    altered = bundle.with_file("golden-images", bundle.path / "golden-images.npz")
    with open_session(altered) as session:
        report = check_parity(altered, session)
    assert report.verdict == "fail"
    assert report.judgement.reasons[0].startswith(
        "Check golden_images does not hold. This device does not prepare image files"
    )


def test_a_shape_that_does_not_fit_is_told(bundle: Bundle) -> None:
    check = checks_of(bundle, prepare=lambda content: np.zeros((1, 1, 3), np.uint8))["golden_images"]
    assert "landscape.jpg: it became uint8 (1, 1, 3) where" in check.detail


def test_what_a_file_does_not_carry_is_named_as_not_checked(tmp_path: Path, bundle: Bundle) -> None:
    (tmp_path / "plain").mkdir()
    plain, _ = bundle_of(tmp_path / "plain", CLASSES, CLASSES, CLASSES)
    open_questions = {name: found.detail for name, found in checks_of(plain).items() if isinstance(found, NotChecked)}
    assert open_questions == {
        "preprocess_digest": "Not checked, because model.fp32.onnx does not say for which preprocessing it was made; "
        "export it again.",
        "class_names": "Not checked, because model.fp32.onnx does not name its classes; export it again.",
        "golden_images": "Not checked, because the bundle has no golden images to decode and scale; export it again.",
    }
    (bundle.path / "golden-images.npz").unlink()
    assert isinstance(checks_of(bundle)["golden_images"], NotChecked)
