"""Killed with SIGKILL at a moment of its own choosing, a build goes on and ends as if nothing had happened."""

import json
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from command import run_command, write_quick_settings, write_tiny_digits
from forking import finish, fork_command, send, wait_until


def write_settings(folder: Path, epochs: int) -> Path:
    """Write the settings of a small student of few images."""
    digits = write_tiny_digits(folder / "few.npz", counts=(16, 6, 8))
    return write_quick_settings(folder / "s.toml", digits, student="plain:8-8", opset=17, epochs=epochs)


def kill_when(process: BaseProcess, reached: Callable[[], bool]) -> None:
    wait_until(reached, process)
    process.kill()
    process.join()


def epochs_done(run: Path) -> int:
    file = run / "distill" / "metrics.jsonl"
    return len(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else 0


def stages_done(run: Path) -> set[str]:
    file = run / "manifest.json"
    return set(json.loads(file.read_text(encoding="utf-8")).get("stages", {})) if file.is_file() else set()


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_killed_in_training_then_in_export_then_finished(tmp_path: Path) -> None:
    settings = write_settings(tmp_path, epochs=8)
    run, whole = tmp_path / "run", tmp_path / "whole"
    argv = ("build", "--config", settings, "--out", run, "--keep-going")

    # Processes that decode images outlive their killed run for a while; they do not keep its folder.
    training = fork_command(*argv, "--workers", "1", output=tmp_path / "out.txt")
    kill_when(training, lambda: epochs_done(run) >= 2)
    assert "distill" not in stages_done(run)

    def exporting() -> bool:
        return "distill" in stages_done(run) and any(run.glob("*.onnx"))  # or a part of one, by a hidden name

    kill_when(fork_command(*argv, output=tmp_path / "out.txt"), exporting)
    assert stages_done(run) == {"distill"}

    finished = run_command(*argv, "--json")
    assert finished.code in (0, 3, 4), finished.stderr
    assert finished.stderr.count("done before, kept") == 1
    assert {stage["status"] for stage in json.loads(finished.stdout)["stages"]} == {"done"}

    assert run_command("distill", "--config", settings, "--out", whole, "--keep-going").code == 0
    weights = Path("distill") / "student.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.parametrize("command", ["export", "calibrate"])
def test_ctrl_c_in_one_stage_names_that_stage(command: str, built_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_given: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgedistill_cli.runs.building.run_stages", stop)
    outcome = run_command(command, built_run)
    assert outcome.code == 130
    assert f"Go on with: edgedistill {command} {built_run}" in outcome.stderr


@pytest.mark.parametrize("command", ["build", "distill"])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, command: str) -> None:
    settings = write_settings(tmp_path, epochs=2000)
    run, output = tmp_path / "run", tmp_path / "out.txt"
    process = fork_command(command, "--config", settings, "--out", run, output=output)
    wait_until(lambda: epochs_done(run) >= 1, process)
    send(signal.SIGINT, process)
    assert finish(process, within_s=120) == 130
    said = output.read_text(encoding="utf-8")
    assert f"Go on with: edgedistill {command} --config {run / 'settings.toml'} --out {run}" in said
    assert "Traceback" not in said
