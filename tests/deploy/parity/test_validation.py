"""The models of a bundle checked together: what each check would find alone, and what is told image by image."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.errors import BundleError, UsageError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.parity import validation
from edgedistill_deploy.parity.check import ParityLimits, check_parity
from edgedistill_deploy.parity.flips import write_flip_record
from edgedistill_deploy.parity.validation import ValidationRequest, validate_bundle
from edgedistill_deploy.runtimes.opening import open_session
from reference.measured_bundles import bundle_of, with_teacher
from reference.measured_models import write_model

CLASSES = [0, 1, 2] * 20
LENIENT = ParityLimits(max_drop=0.5)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Bundle, ImageSet]:
    """A sound float expert, and INT8 files that interchange two classes."""
    bundle, images = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    for role in ("model.int8", "model.int8-tensorrt"):
        path = write_model(bundle.path / f"{role}.onnx", "classes_interchanged")
        bundle = bundle.with_file(role, path)
    return with_teacher(bundle), images


def written(bundle: Bundle, kind: str) -> list[str]:
    return sorted(path.name for path in (bundle.path / kind).glob("*.json"))


def test_each_model_is_found_as_it_would_be_alone(made: tuple[Bundle, ImageSet]) -> None:
    bundle, images = made
    found = validate_bundle(bundle, ValidationRequest(limits=LENIENT, threads=1), images)
    assert [report.model.precision for report in found.reports] == ["teacher", "fp32", "int8"]
    for report in found.reports:
        with open_session(bundle, precision=report.model.precision, threads=1) as session:
            assert report.to_json() == check_parity(bundle, session, images, LENIENT).to_json()
    assert [report.verdict for report in found.reports] == ["pass", "pass", "fail"]
    assert found.verdict == "fail"
    assert [each.model.precision for each in found.flips] == ["fp32", "int8"]
    assert not any((bundle.path / kind).exists() for kind in ("parity", "answers", "flips"))


def test_the_chain_has_every_file_where_all_are_asked(made: tuple[Bundle, ImageSet]) -> None:
    bundle, _ = made
    found = validate_bundle(bundle, ValidationRequest(all_files=True))
    assert [report.model.precision for report in found.reports] == ["teacher", "fp32", "int8"]
    assert [step.precision for step in found.chain] == ["teacher", "fp32", "int8", "int8-tensorrt"]
    assert found.chain[3].model_sha256 == bundle.model_sha256("model.int8-tensorrt")
    assert found.chain[3].loss == found.chain[2].loss
    own = validate_bundle(bundle, ValidationRequest(precisions=("int8-tensorrt",))).reports[0].accuracy
    assert found.chain[3].accuracy == own.candidate


def test_the_teachers_file_is_held_against_its_record_once_for_all_reports(
    made: tuple[Bundle, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, images = made
    opened: list[str] = []

    def counting(*arguments: Any, **named: Any) -> Any:
        opened.append(named["precision"])
        return open_session(*arguments, **named)

    monkeypatch.setattr(validation, "open_session", counting)
    found = validate_bundle(bundle, ValidationRequest(limits=LENIENT, precisions=("fp32", "int8")), images)
    assert opened == ["teacher", "fp32", "int8"]
    first, second = (
        next(check for check in report.soundness.checks if check.name == "teacher_reference")
        for report in found.reports
    )
    assert first == second
    assert first.detail.startswith("teacher.fp32.onnx on 60 of 60 recorded images gives the recorded answers")


def test_records_are_written_where_asked_and_the_chain_of_all_models(made: tuple[Bundle, ImageSet]) -> None:
    bundle, _ = made
    one = validate_bundle(bundle, ValidationRequest(precisions=("fp32",)), write=True)
    device = one.reports[0].model.device
    assert written(bundle, "parity") == [f"{device}-onnxruntime-fp32.json"]
    assert not (bundle.path / "chain").exists()
    found = validate_bundle(bundle, write=True)
    assert written(bundle, "parity") == [f"{device}-onnxruntime-{name}.json" for name in ("fp32", "int8", "teacher")]
    (path,) = (bundle.path / "chain").glob("*.json")
    steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
    assert [step["accuracy"] for step in steps] == [step.accuracy for step in found.chain]


def test_flips_are_those_of_the_experts(made: tuple[Bundle, ImageSet]) -> None:
    bundle, _ = made
    found = validate_bundle(bundle, ValidationRequest(flips=True))
    assert [(each.model.precision, each.flip_count > 0) for each in found.flips] == [("fp32", False), ("int8", True)]
    assert len(found.flips[1].pictures) == found.flips[1].flip_count
    assert write_flip_record(bundle, found.flips[1]).is_file()


def test_the_teachers_file_counts_only_where_it_is_alone(tmp_path: Path) -> None:
    bundle, _ = bundle_of(tmp_path, CLASSES, CLASSES, CLASSES)
    bundle = with_teacher(bundle)
    path = bundle.path / "teacher.fp32.onnx"
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"edgedistill.preprocess": "0" * 64})
    onnx.save(model, path)
    bundle = bundle.with_file("teacher.fp32", path)
    alone = validate_bundle(bundle, ValidationRequest(limits=LENIENT, precisions=("teacher",)))
    assert alone.verdict == "fail"
    found = validate_bundle(bundle, ValidationRequest(limits=LENIENT))
    assert [report.verdict for report in found.reports] == ["fail", "pass"]
    assert found.verdict == "pass"


def test_progress_names_the_model_and_what_is_counted(made: tuple[Bundle, ImageSet]) -> None:
    bundle, images = made
    seen: list[tuple[object, ...]] = []
    request = ValidationRequest(precisions=("teacher", "fp32"), preprocess_drift=True)
    found = validate_bundle(bundle, request, images, progress=lambda *step: seen.append(step))
    assert list(dict.fromkeys(seen)) == [
        (60, 60, "teacher: images"),
        (60, 60, "fp32: images"),
        (60, 60, "fp32: images, prepared in several ways"),
    ]
    teacher, fp32 = (report.findings.preprocess_drift for report in found.reports)
    assert teacher is None
    assert fp32 is not None
    assert fp32[0].accuracy == found.reports[1].accuracy.candidate


def test_what_cannot_be_asked_is_refused(made: tuple[Bundle, ImageSet]) -> None:
    bundle, _ = made
    with pytest.raises(UsageError, match="--preprocess-drift needs image files to prepare in other ways"):
        validate_bundle(bundle, ValidationRequest(preprocess_drift=True))
    with pytest.raises(UsageError, match="There is no precision 'int9'"):
        ValidationRequest(precisions=("int9",))
    with pytest.raises(BundleError, match="has no model of precision fp16"):
        validate_bundle(bundle, ValidationRequest(precisions=("fp16",)))
    with pytest.raises(BundleError, match="holds no model for onnxruntime yet"):
        validate_bundle(Bundle(path=bundle.path, manifest={**bundle.manifest, "files": {}}))
