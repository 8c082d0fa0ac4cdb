import importlib.util
from pathlib import Path

import pytest

from command import run_command, write_quick_settings
from edgedistill_cli.exit_codes import gate_code


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [(["pass", "pass"], 0), (["pass", "inconclusive"], 4), (["inconclusive", "fail"], 3), ([], 0)],
)
def test_the_worst_verdict_decides(verdicts: list[str], code: int) -> None:
    assert gate_code(verdicts) == code


def test_a_library_that_is_missing_stops_a_build_before_it_starts(
    tmp_path: Path, tiny_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_quick_settings(tmp_path / "s.toml", tiny_digits)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    outcome = run_command("build", "--config", settings, "--out", tmp_path / "run")
    assert outcome.code == 1
    assert (
        "The stage 'report' needs jinja2, which is not installed: pip install 'edgedistill[report]'."
        in outcome.stderr
    )
    assert not (tmp_path / "run" / "distill").exists()
