"""Killed with SIGKILL at a moment of its own choosing, a build goes on and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command import IN_A_PROCESS, run_command, write_quick_settings, write_tiny_digits


def write_settings(folder: Path, epochs: int) -> Path:
    """Write the settings of a small student of few images."""
    digits = write_tiny_digits(folder / "few.npz", counts=(16, 6, 8))
    return write_quick_settings(folder / "s.toml", digits, student="plain:8-8", opset=17, epochs=epochs)


def start(*argv: str | Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, *(str(word) for word in argv)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, "the command ended before the moment of the kill"
        assert time.monotonic() < deadline, "the moment of the kill never came"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


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
    argv = ("build", "--config", settings, "--out", run)

    # Processes that decode images outlive their killed run for a while; they do not keep its folder.
    kill_when(start(*argv, "--workers", "1"), lambda: epochs_done(run) >= 2)
    assert "distill" not in stages_done(run)

    def exporting() -> bool:
        return "distill" in stages_done(run) and any(run.glob("*.onnx"))  # or a part of one, by a hidden name

    kill_when(start(*argv), exporting)
    assert stages_done(run) == {"distill"}

    finished = run_command(*argv, "--json")
    assert finished.code in (0, 3, 4), finished.stderr
    assert finished.stderr.count("done before, kept") == 1
    assert {stage["status"] for stage in json.loads(finished.stdout)["stages"]} == {"done"}

    assert run_command("distill", "--config", settings, "--out", whole).code == 0
    weights = Path("distill") / "student.safetensors"
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()


@pytest.mark.parametrize("command", ["build", "distill"])
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, command: str) -> None:
    settings = write_settings(tmp_path, epochs=2000)
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_PROCESS, command, "--config", str(settings), "--out", str(run)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 240
    while epochs_done(run) < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"Go on with: edgedistill {command} --config {run / 'settings.toml'} --out {run}" in err
    assert "Traceback" not in err
