"""A run folder in use is left alone by every other command, and a run writes nowhere else."""

import os
from pathlib import Path

import pytest

from command import run_command, write_quick_settings
from edgedistill_deploy.files.locks import hold_folder


@pytest.fixture
def settings(tmp_path: Path, tiny_digits: Path) -> Path:
    return write_quick_settings(tmp_path / "s.toml", tiny_digits, student="plain:8-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def started_run(folder: Path, settings: Path) -> Path:
    """Return a run folder that holds what a distillation has begun."""
    run = folder / "run"
    (run / "distill" / "checkpoint").mkdir(parents=True)
    (run / "settings.toml").write_bytes(settings.read_bytes())
    (run / "distill" / "checkpoint" / "state.pt").write_bytes(b"an epoch")
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--config", "SETTINGS", "--out", "RUN"],
        ["build", "--config", "SETTINGS", "--out", "RUN", "--restart"],
        ["distill", "--config", "SETTINGS", "--out", "RUN", "--restart"],
        ["demo", "--out", "RUN", "--restart"],
        ["export", "RUN"],
        ["calibrate", "RUN"],
        ["inspect", "RUN"],
        ["inspect", "--config", "SETTINGS", "--out", "RUN"],
        ["plan", "--config", "SETTINGS", "--budget-ms", "1", "--out", "RUN"],
        ["compare", "--config", "SETTINGS", "--methods", "labels", "--seeds", "1", "--out", "RUN"],
    ],
    ids=lambda words: "-".join(word.strip("-") for word in words if word.islower() and "/" not in word),
)
def test_a_folder_in_use_is_left_alone(tmp_path: Path, settings: Path, words: list[str]) -> None:
    run = started_run(tmp_path, settings)
    named = {"SETTINGS": str(settings), "RUN": str(run)}
    with hold_folder(run, "edgedistill build"):
        before = contents(run)
        outcome = run_command(*(named.get(word, word) for word in words))
        assert (outcome.code, outcome.stdout) == (1, "")
        assert f"error: {run} is in use by edgedistill build, process {os.getpid()} on " in outcome.stderr
        assert contents(run) == before


def test_a_folder_that_holds_no_run_gets_no_lock_either(tmp_path: Path, settings: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear", encoding="utf-8")
    outcome = run_command("build", "--config", settings, "--out", tmp_path / "home")
    assert outcome.code == 2
    assert "is not empty and holds no run" in outcome.stderr
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("link", ["distill", "distill/checkpoint", "parity", "calibration", "settings.toml"])
@pytest.mark.parametrize("restart", [(), ("--restart",)])
def test_a_run_whose_folders_lead_out_is_refused(
    tmp_path: Path, settings: Path, link: str, restart: tuple[str, ...]
) -> None:
    run, theirs = started_run(tmp_path, settings), tmp_path / "theirs"
    if (run / link).exists():
        (run / link).rename(theirs)
    else:
        theirs.mkdir()
    (run / link).symlink_to(theirs)
    before = contents(run), contents(theirs)
    outcome = run_command("distill", "--config", settings, "--out", run, *restart)
    assert outcome.code == 1
    assert f"error: {run / link} leads out of the bundle; it is refused." in outcome.stderr
    assert (contents(run), contents(theirs)) == (
        {**before[0], str(run / ".lock"): contents(run)[str(run / ".lock")]},
        before[1],
    )
