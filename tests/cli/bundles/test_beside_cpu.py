"""Other providers for the processor: measured where nobody named one, judged by a build, and never in the way."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from command import run_command
from edgedistill_cli.bundles.profiling import Gates
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.records.build import summarise_build
from edgedistill_deploy.records.reading import read_records
from reference.openvino_standin import REFUSED, WRONG

QUICK = ("--duration", "0.1", "--warmup", "0", "--quiet")


@pytest.fixture
def run(built_run: Path) -> Path:
    for path in (*built_run.glob("latency/*"), *built_run.glob("*/*openvino*")):
        path.unlink()
    return built_run


def measured(*argv: str | Path) -> tuple[dict[str, Any], str]:
    outcome = run_command("profile", *argv, *QUICK, "--json")
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout), outcome.stderr


def names(folder: Path, kind: str) -> set[str]:
    """Return the ends of the records' names, without the device."""
    return {path.stem.split("onnxruntime")[1] for path in folder.glob(f"{kind}/*onnxruntime*.json")}


def test_a_profile_measures_openvino_too_and_says_how_it_can_be_recommended(
    run: Path, openvino: pytest.MonkeyPatch
) -> None:
    outcome = run_command("profile", run, *QUICK)
    assert outcome.code == 0, outcome.stderr
    assert names(run, "latency") == {
        f"{where}-{precision}" for where in ("", "_openvino") for precision in ("teacher", "fp32", "int8")
    }
    assert re.search(r"^Latency on \S+ *$", outcome.stdout, re.MULTILINE)
    assert re.search(r"^Latency on \S+ with openvino *$", outcome.stdout, re.MULTILINE)
    hint = f"edgedistill validate {run} --provider openvino"
    assert f"fp32 and int8 on openvino can be recommended only after a comparison with the teacher there: {hint}" in (
        outcome.stdout
    )
    choices = open_bundle(run).manifest["choices"].values()
    assert {choice["provider"] for choice in choices} <= {"cpu", None}
    judged = run_command("validate", run, "--provider", "openvino", "--quiet")
    assert judged.code in (0, 3, 4), judged.stderr
    assert hint not in run_command("profile", run, "--precision", "fp32", *QUICK).stdout
    assert {each.report.model.provider for each in read_records(open_bundle(run)).parity} == {"cpu", "openvino"}


def test_a_budget_goes_by_cpu_and_says_so(run: Path, openvino: pytest.MonkeyPatch) -> None:
    budget = ("--budget-ms", "10000", "--percentile", "50")
    outcome = run_command("profile", run, "--precision", "fp32", *budget, *QUICK)
    assert outcome.code == 0
    assert "expert fp32 with openvino: Nobody named openvino, so this does not change the verdict." in outcome.stdout
    assert "expert fp32: Nobody" not in outcome.stdout


def test_the_document_of_one_precision_is_the_one_that_was_asked_for(run: Path, openvino: pytest.MonkeyPatch) -> None:
    record, _ = measured(run, "--precision", "fp32")
    assert (record["kind"], record["provider"]) == ("latency", "cpu")
    assert names(run, "latency") == {"-fp32", "_openvino-fp32"}


def test_who_names_a_provider_gets_that_one_alone(run: Path, openvino: pytest.MonkeyPatch) -> None:
    for provider in ("cpu", "openvino"):
        record, _ = measured(run, "--precision", "fp32", "--provider", provider, "--record", run.parent / provider)
        assert record["provider"] == provider
    assert [names(run.parent / each, "latency") for each in ("cpu", "openvino")] == [{"-fp32"}, {"_openvino-fp32"}]


def test_without_openvino_cpu_is_measured_alone(run: Path) -> None:
    profile, _ = measured(run)
    assert {record["provider"] for record in profile["records"]} == {"cpu"}
    assert "added" not in profile


def test_a_model_that_openvino_cannot_load_is_a_note_unless_it_was_asked_for(
    run: Path, openvino: pytest.MonkeyPatch
) -> None:
    openvino.setenv(REFUSED, "int8")
    outcome = run_command("profile", run, "--duration", "0.1", "--warmup", "0", "--json")
    assert outcome.code == 0, outcome.stderr
    profile = json.loads(outcome.stdout)
    assert re.search(
        r"note: int8 was not measured on openvino: .*cannot load .*model\.int8\.onnx on openvino: OpenVINO has no such",
        outcome.stderr,
    )
    assert profile["added"] == ["openvino"]
    assert [(each["precision"], each["provider"]) for each in profile["left_out"]] == [("int8", "openvino")]
    assert names(run, "latency") >= {"-int8", "_openvino-fp32"}
    assert "_openvino-int8" not in names(run, "latency")
    asked = run_command("profile", run, "--provider", "openvino", *QUICK)
    assert asked.code == 1
    assert "OpenVINO has no such operator" in asked.stderr


def test_providers_are_compared_by_alternating_blocks_only_when_there_are_two(
    run: Path, openvino: pytest.MonkeyPatch
) -> None:
    alone = run_command("profile", run, "--precision", "fp32", "--providers", "openvino", *QUICK)
    assert (alone.code, "--runtimes or --providers" in alone.stderr) == (2, True)
    twice = run_command("profile", run, "--providers", "cpu,cpu", *QUICK)
    assert (twice.code, "--providers takes different names" in twice.stderr) == (2, True)


@pytest.mark.slow
def test_the_ratio_of_two_providers_is_measured_in_one_run(run: Path, openvino: pytest.MonkeyPatch) -> None:
    profile, _ = measured(run, "--precision", "fp32", "--providers", "cpu,openvino")
    assert [record["provider"] for record in profile["records"]] == ["cpu", "openvino"]
    comparison = profile["comparison"]
    assert [each["provider"] for each in comparison["alternatives"]] == ["cpu", "openvino"]
    assert {each["model_sha256"] for each in comparison["alternatives"]} == {profile["records"][0]["model_sha256"]}
    (pair,) = comparison["pairs"]
    assert (pair["candidate"], pair["baseline"]) == ("fp32 on onnxruntime openvino", "fp32 on onnxruntime")


def test_a_build_judges_and_measures_on_openvino_and_goes_by_cpu(run: Path, openvino: pytest.MonkeyPatch) -> None:
    before = summarise_build(open_bundle(run))["verdicts"]
    openvino.setenv(WRONG, "fp32")
    openvino.setenv(REFUSED, "int8")
    settings = run / "settings.toml"
    # Both stages are due again when one of their settings changes.
    changed = {"confidence = 0.95\n": "confidence = 0.9500001\n", "duration_s = 0.1\n": "duration_s = 0.11\n"}
    text = settings.read_text(encoding="utf-8")
    for old, new in changed.items():
        text = text.replace(old, new)
    settings.write_text(text, encoding="utf-8")
    outcome = run_command("build", "--config", settings, "--out", run, "--json")
    document = json.loads(outcome.stdout)
    assert document["verdicts"] == before, outcome.stderr
    assert outcome.code == {"pass": 0, "fail": 3, "inconclusive": 4}[document["verdict"]]
    for part in ("judged", "measured"):
        assert re.search(rf"note: int8 was not {part} on openvino: .*OpenVINO has no such operator", outcome.stderr)
    assert names(run, "parity") >= {"-fp32", "-int8", "_openvino-fp32"}
    assert not names(run, "parity") & {"_openvino-int8", "_openvino-teacher"}
    verdicts = {
        each.report.model.provider: each.report.verdict
        for each in read_records(open_bundle(run)).parity
        if each.report.model.precision == "fp32"
    }
    assert (verdicts["openvino"], verdicts["cpu"]) == ("fail", before["fp32"])
    choices = open_bundle(run).manifest["choices"].values()
    assert {choice["provider"] for choice in choices} <= {"cpu", None}


def record(provider: str, ms: float) -> dict[str, Any]:
    return {
        "kind": "latency", "schema": 1, "precision": "fp32", "batch_size": 1, "runtime": "onnxruntime",
        "provider": provider, "threads": 1, "samples_ms": [ms] * 400, "device": {"name": "board"}, "flags": [],
    }  # fmt: skip


def test_a_slower_added_provider_breaks_no_budget_that_cpu_keeps() -> None:
    gates = Gates.of(2.0, 99.0, None, 0.03, 0)
    both = {"records": [record("cpu", 1.0), record("openvino", 9.0)]}
    added = gates.judge({**both, "added": ["openvino"]})
    assert [each["budget"]["verdict"] for each in added["records"]] == ["pass", "fail"]
    assert gates.verdict(added) == "pass"
    assert gates.verdict(gates.judge(both)) == "fail"  # whoever names both asks for both
    faster = gates.judge({"records": [record("cpu", 9.0), record("openvino", 1.0)], "added": ["openvino"]})
    assert gates.verdict(faster) == "fail"


def test_an_earlier_record_is_one_of_the_same_provider(tmp_path: Path) -> None:
    file = tmp_path / "before.json"

    def ratios(earlier: list[dict[str, Any]], now: dict[str, Any]) -> list[float | None]:
        file.write_text(json.dumps({"kind": "latency-set", "schema": 1, "records": earlier}), encoding="utf-8")
        judged = Gates.of(None, 99.0, file, 0.03, 0).judge(now)
        return [each["against"]["ratio"] if "against" in each else None for each in judged["records"]]

    both = [record("openvino", 4.0), record("cpu", 2.0)]
    now = {"records": [record("cpu", 1.0), record("openvino", 1.0)]}
    assert ratios(both, now) == [0.5, 0.25]
    assert ratios(both[1:], now) == [0.5, 0.5]  # who names openvino compares with what there is
    assert ratios(both[1:], {**now, "added": ["openvino"]}) == [0.5, None]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_provider_that_computes_something_else_is_named(
    precision: str, run: Path, openvino: pytest.MonkeyPatch
) -> None:
    openvino.setenv(WRONG, precision)
    found = {}
    for provider in ("openvino", "cpu"):
        outcome = run_command("validate", run, "--precision", precision, "--provider", provider, "--json", "--quiet")
        found[provider] = [each["name"] for each in json.loads(outcome.stdout)["diagnosis"]]
    assert found["openvino"] == ["runtime_computes_otherwise"]
    assert "runtime_computes_otherwise" not in found["cpu"]
