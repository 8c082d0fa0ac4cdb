"""A measuring process that is stopped is not waited for in silence."""

import os
import signal

import pytest

from edgedistill_deploy import lines
from edgedistill_deploy.profiling import _fresh_process
from edgedistill_deploy.profiling._fresh_process import FreshProcess


def test_a_stopped_process_is_told_with_its_number_and_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, _fresh_process):
        monkeypatch.setattr(module, "QUIET_S", 0.2)
    told: list[str] = []

    def report(done: int, total: int, note: str = "") -> None:
        told.append(note)
        os.kill(process.identity, signal.SIGCONT)

    with FreshProcess() as process:
        os.kill(process.identity, signal.SIGSTOP)
        assert process.ask("identify", report) == process.identity
    assert told[0].startswith(f"nothing has come from process {process.identity} for ")
    assert f"kill -CONT {process.identity}" in told[0]
