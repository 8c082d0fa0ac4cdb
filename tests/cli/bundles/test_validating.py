import importlib.util
from pathlib import Path

import pytest

from command import run_command, write_quick_settings
from edgedistill_cli.exit_codes import Outcome, gate_code


@pytest.mark.parametrize(("verdict", "code"), [("pass", 0), ("fail", 3), ("inconclusive", 4), ("error", 1)])
def test_the_exit_code_is_that_of_the_verdict(verdict: Outcome, code: int) -> None:
    assert gate_code(verdict) == code


def test_a_library_that_is_missing_stops_a_build_before_it_starts(
    tmp_path: Path, tiny_digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_quick_settings(tmp_path / "s.toml", tiny_digits)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    outcome = run_command("build", "--config", settings, "--out", tmp_path / "run")
    assert outcome.code == 1
    assert (
        "The stage 'report' needs jinja2, which is not installed: pip install 'edgedistill[report]'." in outcome.stderr
    )
    assert not (tmp_path / "run" / "distill").exists()
