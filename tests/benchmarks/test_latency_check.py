import os
import stat
from pathlib import Path

import pytest

pytest.importorskip("benchmarks.latency_check", reason="the benchmarks are not part of the installed package")

from benchmarks.latency_check import check, perf_test_ms
from edgedistill_deploy.bundle.folder import open_bundle


def test_our_p50_is_compared_with_that_of_a_bare_loop(built_run: Path) -> None:
    """Both run the same model in the same unit; whether they are within 3 % is for the script to say."""
    found = check(open_bundle(built_run), "fp32", rounds=6, sets=1, seconds=0.05)
    low, high = found["interval"]
    assert 0.1 < found["ratio"] < 10
    assert low <= found["ratio"] <= high
    assert len(found["set_ratios"]) == 1
    assert found["within"] is (0.97 <= found["ratio"] <= 1.03)


def test_the_performance_test_of_the_runtime_is_asked_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert perf_test_ms(tmp_path / "model.onnx", str(tmp_path)) is None
    program = tmp_path / "onnxruntime_perf_test"
    program.write_text("#!/bin/sh\necho 'P50 Latency: 0.00132 s'\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert perf_test_ms(tmp_path / "model.onnx", str(tmp_path)) == pytest.approx(1.32)
    program.write_text("#!/bin/sh\necho failed >&2; exit 1\n", encoding="utf-8")
    assert perf_test_ms(tmp_path / "model.onnx", str(tmp_path)) is None
