"""`--reject` as a user types it."""

import json
from pathlib import Path

import onnx
import pytest

from command import Outcome, run_command


def planned(run: Path, *more: str) -> dict[str, str]:
    outcome = run_command("build", "--config", run / "settings.toml", "--out", run, "--dry-run", "--json", *more)
    return {each["stage"]: each["status"] for each in json.loads(outcome.stdout)["plan"]}


def outputs(run: Path) -> list[str]:
    return [each.name for each in onnx.load(run / "model.fp32.onnx").graph.output]


@pytest.fixture
def rejecting(built_run: Path) -> tuple[Path, Outcome]:
    return built_run, run_command("export", built_run, "--reject", "0.9", "--opset", "17")


def test_export_adds_the_output_and_the_run_remembers(rejecting: tuple[Path, Outcome]) -> None:
    run, outcome = rejecting
    assert outcome.code == 0, outcome.stderr
    assert outputs(run) == ["logits", "in_domain"]
    record = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["reject"]
    assert (record["score"], record["true_accept_target"]) == ("energy", 0.9)
    assert record["validation"]["true_accept"] >= 0.9
    assert (record["test"]["inside_count"], record["test"]["outside_count"]) == (80, 0)
    assert "accepts" in outcome.stderr
    assert "no validation images of the teacher's other classes" in outcome.stderr
    assert planned(run)["export"] == "kept"
    assert planned(run, "--reject", "0.95")["export"] == "due"
    assert planned(run, "--reject", "0")["export"] == "due"


def test_a_share_out_of_range_is_one_sentence(built_run: Path) -> None:
    before = (built_run / "settings.toml").read_bytes()
    outcome = run_command("export", built_run, "--reject", "0.3")
    assert outcome.code == 2
    assert "reject must be 0 (off) or a share from 0.5 to below 1, such as 0.95, and 0.3" in outcome.stderr
    assert (built_run / "settings.toml").read_bytes() == before
    assert outputs(built_run) == ["logits"]
