"""What a build came to: from the models in the bundle now, whatever older records say."""

from pathlib import Path

from edgedistill_deploy.records.build import summarise_build
from reference.report_bundles import add_record, full_bundle, models_only, parity_record


def test_experts_have_verdicts_and_the_teacher_an_accuracy(tmp_path: Path) -> None:
    bundle = full_bundle(tmp_path / "bundle")
    found = summarise_build(bundle)
    assert list(found) == ["teacher", "student", "distillation", "rivals", "artefacts", "verdicts", "verdict"]
    assert (found["verdicts"], found["verdict"]) == ({"fp32": "pass", "int8": "pass"}, "pass")
    assert found["teacher"] == {
        "parameters": 1_272_036,
        "accuracy": parity_record(bundle, "teacher", lost=0, gained=0)["accuracy"]["candidate"],
    }
    assert found["student"]["accuracy"] == parity_record(bundle, "fp32", lost=24, gained=15)["accuracy"]["candidate"]
    assert {each["role"] for each in found["artefacts"]} >= {"model.fp32", "model.int8"}
    assert all(each["sha256"] == bundle.manifest["files"][each["role"]]["sha256"] for each in found["artefacts"])
    assert found["distillation"] == bundle.manifest["distillation"]


def test_what_was_not_measured_is_none(tmp_path: Path) -> None:
    found = summarise_build(models_only(tmp_path / "bundle"))
    assert (found["verdicts"], found["verdict"]) == ({}, None)
    assert (found["teacher"]["accuracy"], found["student"]["accuracy"]) == (None, None)
    assert found["distillation"] is None


def test_a_record_of_another_model_counts_for_nothing(tmp_path: Path) -> None:
    bundle = models_only(tmp_path / "bundle")
    add_record(bundle, {**parity_record(bundle, "fp32"), "model_sha256": "0" * 64})
    assert summarise_build(bundle)["verdicts"] == {}
