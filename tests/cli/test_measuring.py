import importlib.util
import os
import signal
from pathlib import Path

import pytest

from command import run_command, write_quick_settings
from edgedistill_cli.measuring import _in_fresh_process, gate_code
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError


def own_process() -> int:
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def miss_a_library() -> None:
    raise MissingDependencyError("onnxruntime", "ort", "Running a model")


def test_work_is_done_in_another_process_each_time() -> None:
    first, second = _in_fresh_process(own_process), _in_fresh_process(own_process)
    assert len({first, second, os.getpid()}) == 3


def test_a_process_that_is_killed_is_a_sentence() -> None:
    with pytest.raises(EdgeDistillError, match="ended before it was done"):
        _in_fresh_process(die)


def test_expected_failures_cross_over_with_their_words() -> None:
    with pytest.raises(
        MissingDependencyError, match=r"Running a model needs onnxruntime.*edgedistill\[ort\]"
    ):
        _in_fresh_process(miss_a_library)


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
