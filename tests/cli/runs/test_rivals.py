"""A run's expert beside its rivals: measured on the same images, kept, gone on with, and told in one sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import Outcome, run_command, write_quick_settings, write_tiny_digits
from edgedistill import load_teacher, open_source, split_for_subtask
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.images.sets import batches
from edgedistill_deploy.report.page import render_report
from reference.trained_starts import answers_of, write_start

DIGITS = ["3", "2", "1", "0"]


def distill(folder: Path, *flags: str | Path) -> Outcome:
    """Distil a small started student in `folder`/run."""
    common = ("--config", folder / "s.toml", "--student-weights", folder / "start", "--out", folder / "run")
    return run_command("distill", *common, *flags)


def record_of(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / "run" / "manifest.json").read_text(encoding="utf-8"))
    record: dict[str, Any] = manifest["rivals"]
    return record


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rivals")
    digits = write_tiny_digits(folder / "few.npz", counts=(8, 4, 12))
    settings = write_quick_settings(folder / "s.toml", digits, student="timm:test_resnet", epochs=2)
    settings.write_text(settings.read_text(encoding="utf-8").replace("\nwidth = 0.125", ""), encoding="utf-8")
    write_start(folder / "start", DIGITS)
    outcome = distill(folder, "--rivals", "--keep-going")
    assert outcome.code == 0, outcome.stderr
    (folder / "stderr.txt").write_text(outcome.stderr, encoding="utf-8")
    return folder


def test_the_expert_and_all_rivals_are_tested_on_the_same_images(compared: Path) -> None:
    record = record_of(compared)
    assert [row["name"] for row in record["rows"]] == ["as-is", "labels", "logits"]
    images = split_for_subtask(open_source(f"npz:{compared / 'few.npz'}"), ["0", "1", "2", "3"]).test
    assert images is not None
    (pixels,) = batches(images, load_teacher("embedded:glyphs100").preprocess, 100)
    kept = ["0", "1", "2", "3"]
    answers = answers_of(compared / "start", DIGITS, kept, pixels)
    right = np.array([kept[label] for label in images.labels]) == np.array(answers)
    as_is = record["rows"][0]
    assert as_is["accuracy"] == pytest.approx(right.mean())
    assert as_is["training"] is None
    assert [row["training"]["epochs"] for row in record["rows"][1:]] == [2, 2]
    for row in record["rows"]:
        found = row["difference"]
        assert found["mean"] == pytest.approx(record["expert"]["accuracy"] - row["accuracy"])
        assert found["mean"] * record["images"] == pytest.approx(found["wins"] - found["losses"])
        assert found["interval"][0] <= found["mean"] <= found["interval"][1]


def test_the_user_and_the_report_get_one_sentence(compared: Path) -> None:
    record = record_of(compared)
    assert f"rivals: {record['sentence']}" in (compared / "stderr.txt").read_text(encoding="utf-8")
    best = max(record["rows"], key=lambda row: row["accuracy"])["name"]
    assert f"against {best}, the best of as-is, labels and logits" in record["sentence"]
    page = render_report(open_bundle(compared / "run"))
    assert "Was SubDistill worth it?" in page
    assert record["sentence"].split("`", maxsplit=1)[0] in page


def test_a_second_run_trains_nothing_again_and_one_that_lost_a_rival_trains_that_one(compared: Path) -> None:
    before = record_of(compared)
    made = {path.name: path.stat().st_mtime_ns for path in (compared / "run" / "rivals").glob("*.json")}
    again = distill(compared, "--keep-going")  # also without the flag, what is there is shown
    assert again.code == 0, again.stderr
    assert f"rivals: {before['sentence']}" in again.stderr
    (compared / "run" / "rivals" / "logits.json").write_text("{}", encoding="utf-8")
    mended = distill(compared, "--rivals", "--keep-going")
    assert mended.code == 0, mended.stderr
    assert record_of(compared) == before
    now = {path.name: path.stat().st_mtime_ns for path in (compared / "run" / "rivals").glob("*.json")}
    assert {name for name in made if now[name] != made[name]} == {"logits.json"}


def test_a_student_from_nothing_has_no_rivals_unless_they_are_asked_for(built_run: Path) -> None:
    assert not (built_run / "rivals").exists()
    assert "rivals" not in json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))


def test_several_processes_are_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write_quick_settings(tmp_path / "s.toml", write_tiny_digits(tmp_path / "few.npz", counts=(8, 4, 4)))
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = run_command("distill", "--config", settings, "--rivals", "--out", tmp_path / "run")
    assert refused.code == 2
    assert "--rivals trains in one process" in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_counts_the_rivals_and_refuses_helpers(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plan(*flags: str) -> Any:
        return json.loads(distill(compared, "--restart", "--dry-run", "--json", *flags).stdout)

    without, both = plan(), plan("--rivals")
    assert (without["rivals"], both["rivals"]) == ([], ["labels", "logits"])
    assert both["room"]["parts_bytes"]["rivals"] == 2 * both["room"]["parts_bytes"]["checkpoints"]
    assert "rivals, trained after the expert: labels, logits" in distill(compared, "--dry-run", "--rivals").stdout
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = distill(compared, "--dry-run", "--rivals")
    assert refused.code == 2
    assert "--rivals trains in one process" in refused.stderr
