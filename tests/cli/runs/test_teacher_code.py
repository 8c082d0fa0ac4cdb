"""A teacher that is code runs where the command line allows it, and no settings file can allow it."""

from pathlib import Path

import pytest

from command import run_command, write_quick_settings

MODULE = """
from pathlib import Path
import edgedistill

def make():
    Path("ran").touch()
    return edgedistill.load_teacher("embedded:glyphs100")
"""


@pytest.fixture
def settings(tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Settings of a run whose teacher is a function of a module in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_glyphs.py").write_text(MODULE, encoding="utf-8")
    file = write_quick_settings(tmp_path / "s.toml", tiny_digits, student="plain:8-8", opset=17, epochs=1)
    text = file.read_text(encoding="utf-8").replace("embedded:glyphs100", "python:own_glyphs:make")
    file.write_text(text, encoding="utf-8")
    return file


def test_code_runs_with_the_flag_alone_and_the_flag_is_not_kept(settings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = run_command("distill", "--config", settings, "--out", run)
    assert refused.code == 2
    assert "give --allow-code on the command line" in " ".join(refused.stderr.split())
    assert not (tmp_path / "ran").exists()
    done = run_command("distill", "--config", settings, "--out", run, "--allow-code")
    assert done.code == 0, done.stderr
    assert (tmp_path / "ran").exists()
    assert "allow_code" not in (run / "settings.toml").read_text(encoding="utf-8")
    assert run_command("export", run).code == 2
    exported = run_command("export", run, "--allow-code")
    assert exported.code == 0, exported.stderr


@pytest.mark.parametrize("allowed", ["true", "false"])
def test_a_settings_file_that_allows_code_is_refused(settings: Path, tmp_path: Path, allowed: str) -> None:
    text = settings.read_text(encoding="utf-8").replace("[teacher]\n", f"[teacher]\nallow_code = {allowed}\n")
    settings.write_text(text, encoding="utf-8")
    outcome = run_command("distill", "--config", settings, "--out", tmp_path / "run", "--allow-code")
    assert outcome.code == 2
    assert "a file cannot allow code to run" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "ran").exists()
