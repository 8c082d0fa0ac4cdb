import json
from pathlib import Path

import pytest

from command import run_command, write_quick_settings


@pytest.fixture(scope="module")
def hopeless(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file whose learning rate is so small that a student stays at chance."""
    folder = tmp_path_factory.mktemp("hopeless")
    return write_quick_settings(
        folder / "settings.toml", tiny_digits, student="plain:4-4", opset=17, epochs=5, learning_rate=1e-9
    )


def test_a_build_stops_after_training_at_chance_and_goes_on_when_told(hopeless: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    stopped = run_command("build", "--config", hopeless, "--out", run, "--json")
    assert stopped.code == 3
    # Once while it trains, after 3 of 5 epochs, and once at the end.
    assert stopped.stderr.count("note: after epoch 3 of 5 the student is right on") == 1
    assert stopped.stderr.count("not better than chance") == 2
    for told in ("160 images, 5 epochs of 5 steps", "--epochs 15", "--lr", "--student", "--keep-going"):
        assert told in stopped.stderr
    assert (run / "distill" / "student.safetensors").is_file()
    assert not (run / "model.fp32.onnx").exists()
    record = json.loads(stopped.stdout)
    assert [each["status"] for each in record["stages"]] == ["done", *["due"] * 5]
    standing = record["distillation"]["standing"]
    assert standing["at_chance"]
    assert standing["said_after_epochs"] == 3
    assert standing["sentence"] in record["distillation"]["notes"]

    weights = (run / "distill" / "student.safetensors").read_bytes()
    again = run_command("build", "--config", hopeless, "--out", run)
    assert again.code == 3
    went_on = run_command("build", "--config", hopeless, "--out", run, "--keep-going")
    assert "distill: done before, kept" in went_on.stderr
    assert "note: after epoch 5 of 5" in went_on.stderr
    assert (run / "model.int8.onnx").is_file()
    assert (run / "distill" / "student.safetensors").read_bytes() == weights


def test_distill_alone_leaves_its_student_and_exits_with_the_gates_code(hopeless: Path, tmp_path: Path) -> None:
    words = ("distill", "--config", hopeless, "--epochs", "3", "--out", tmp_path / "run")
    assert run_command(*words).code == 3
    assert (tmp_path / "run" / "distill" / "student.safetensors").is_file()
    assert run_command(*words, "--keep-going").code == 0


def test_a_trial_of_one_epoch_is_noted_and_not_stopped(hopeless: Path, tmp_path: Path) -> None:
    outcome = run_command("distill", "--config", hopeless, "--epochs", "1", "--out", tmp_path / "run")
    assert outcome.code == 0
    assert "note: after epoch 1 of 1 the student is right on" in outcome.stderr
