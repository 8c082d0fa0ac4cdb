"""`export` says how fragile a student is before INT8, and `calibrate --recover N` trains it under quantisation."""

import json
from pathlib import Path

import pytest

from command import run_command
from edgedistill_calibration.judging.ledger import read_ledger
from edgedistill_deploy.bundle.folder import open_bundle


def test_export_says_how_fragile_the_student_is(built_run: Path) -> None:
    record = open_bundle(built_run).manifest["readiness"]
    assert record["verdict"] in ("ready", "fragile")
    assert {each["name"] for each in record["layers"]} >= {"conv1.0", "layer1.0.conv1", "fc"}
    assert record["sentence"].startswith(f"INT8 readiness: {record['verdict']}")
    # The forecast stands beside what came of it.
    assert record["sentence"] in " ".join(run_command("ledger", built_run).stdout.split())


def test_calibrate_recovers_and_records_both(built_run: Path) -> None:
    outcome = run_command("calibrate", built_run, "--recover", "1", "--ledger-nodes", "0", "--no-fp16", "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["kind"]
    bundle = open_bundle(built_run)
    assert bundle.file("recovered") == built_run / "distill" / "recovered.safetensors"
    record = bundle.manifest["recovery"]
    assert record["epochs"] == 1
    assert record["left_float"] == []
    assert f"validation accuracy in INT8 {record['quantised_validation_accuracy_before']:.2%} before" in (
        outcome.stderr
    )
    steps = {step["stage"]: step for step in read_ledger(bundle)["steps"]}
    assert {"int8", "int8-recovered"} <= steps.keys()
    assert {steps["int8"]["kept"], steps["int8-recovered"]["kept"]} == {True, False}
    kept = "int8-recovered" if steps["int8-recovered"]["kept"] else "int8"
    assert f"the INT8 of the {'recovered' if kept != 'int8' else 'calibrated'} student is kept" in outcome.stderr
    assert bundle.model_sha256("model.int8") == steps[kept]["model_sha256"]


def test_recovery_is_refused_under_a_launcher(built_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = run_command("calibrate", built_run, "--recover", "1", "--ledger-nodes", "0", "--no-fp16")
    assert outcome.code == 1
    assert "Recovery trains in one process; run `edgedistill calibrate" in outcome.stderr
    assert "without the launcher" in outcome.stderr
