"""What `student.weights` means in a run: trained weights reach the exported file, older settings mean what they did."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tomli_w
import torch
from safetensors.torch import load_file
from timm.models import save_for_hf

from command import run_command, write_quick_settings, write_tiny_digits
from edgedistill_cli.settings_file import read_settings, write_settings
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.files.text import read_toml
from edgedistill_deploy.runtimes.logits import logits_of
from edgedistill_deploy.runtimes.opening import open_model

DIGITS = ["3", "2", "1", "0"]


def write_start(folder: Path) -> Path:
    torch.manual_seed(1)
    model = timm.create_model("test_resnet", num_classes=4)
    labels = {"num_classes": 4, "label_names": DIGITS}
    save_for_hf(model, str(folder), labels, safe_serialization=True)
    return folder


def test_trained_weights_and_their_pixels_reach_the_exported_expert(tmp_path: Path) -> None:
    digits = write_tiny_digits(tmp_path / "few.npz", counts=(8, 4, 4))
    settings = write_quick_settings(tmp_path / "s.toml", digits, student="timm:test_resnet", opset=17, epochs=1)
    settings.write_text(settings.read_text(encoding="utf-8").replace("\nwidth = 0.125", ""), encoding="utf-8")
    run, weights = tmp_path / "run", write_start(tmp_path / "start")
    begun = run_command("distill", "--config", settings, "--student-weights", weights, "--out", run)
    assert begun.code == 0, begun.stderr
    assert "from the trained weights of start; the head starts from 4 of 4 trained rows" in begun.stderr
    shutil.rmtree(weights)  # what is trained needs its start no more
    exported = run_command("export", run)
    assert exported.code == 0, exported.stderr
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["student_start"]["weights"] == "start"
    lines = (run / "distill" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line)["learning_rate"] for line in lines]
    assert max(rates) <= 1e-3

    alone: Any = timm.create_model("test_resnet", num_classes=4).eval()
    alone.load_state_dict(load_file(run / "distill" / "student.safetensors"))
    pixels = np.random.default_rng(0).integers(0, 256, (2, *open_bundle(run).preprocess.size, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = alone((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).numpy()
    with open_model(run / "model.fp32.onnx", precision="fp32") as session:
        np.testing.assert_allclose(logits_of(session, pixels), expected, atol=1e-3)


def test_settings_that_an_earlier_version_wrote_whole_start_from_nothing(tmp_path: Path) -> None:
    flags = {"data.source": "x", "teacher.name": "t", "subtask.classes": ["a", "b"], "student.name": "timm:resnet10t"}
    now = read_settings(None, flags)
    assert now.student.weights == "auto"
    write_settings(tmp_path / "new.toml", now)
    assert read_settings(tmp_path / "new.toml", {}) == now

    tables = read_toml(tmp_path / "new.toml", "settings")
    del tables["student"]["weights"]
    tables["distill"]["learning_rate"] = 3e-3
    (tmp_path / "old.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    old = read_settings(tmp_path / "old.toml", {})
    assert old.student.weights is None
    assert old.to_tables() == tables  # so the keys of finished stages stay as they are
    asked = read_settings(tmp_path / "old.toml", {"student.weights": "pretrained"})
    assert asked.student.weights == "pretrained"

    by_hand = {name: tables[name] for name in ("data", "teacher", "subtask", "student")}
    (tmp_path / "own.toml").write_text(tomli_w.dumps(by_hand), encoding="utf-8")
    assert read_settings(tmp_path / "own.toml", {}).student.weights == "auto"


@pytest.fixture
def run_of_before(built_run: Path) -> Path:
    """A finished run as a version without `student.weights` left it."""
    from edgedistill_cli.console import Console
    from edgedistill_cli.runs.folder import Run

    tables = read_toml(built_run / "settings.toml", "settings")
    tables["student"].pop("weights", None)
    tables["distill"]["learning_rate"] = 3e-3
    (built_run / "settings.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    manifest = json.loads((built_run / "manifest.json").read_text(encoding="utf-8"))
    manifest.pop("student_start", None)
    run = Run(folder=built_run, settings=read_settings(built_run / "settings.toml", {}), console=Console(quiet=True))
    for stage, entry in manifest["stages"].items():
        entry["key"] = run.key(stage)
    (built_run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return built_run


def test_a_finished_run_of_before_stays_finished_for_its_own_command(run_of_before: Path) -> None:
    tables = read_toml(run_of_before / "settings.toml", "settings")
    own = {name: tables[name] for name in ("data", "teacher", "subtask", "student", "distill")}
    del own["distill"]["learning_rate"]
    file = run_of_before.parent / "own.toml"
    file.write_text(tomli_w.dumps(own), encoding="utf-8")
    for config in (run_of_before / "settings.toml", file):
        outcome = run_command("distill", "--config", config, "--out", run_of_before)
        assert outcome.code == 0, outcome.stderr
        assert "distill: done before, kept" in outcome.stderr
    refused = run_command("distill", "--config", file, "--student-weights", "none", "--out", run_of_before)
    assert refused.code == 2, refused.stderr
    assert "student.weights was None and is 'none'" in refused.stderr
