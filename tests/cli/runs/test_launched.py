"""The command, started by `accelerate launch` in two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

from edgedistill_deploy.bundle.folder import open_bundle
from reference.launching import LAUNCH_TWO


def launched(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *LAUNCH_TWO, "-m", "edgedistill_cli", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def distilled(tiny_digits: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return launched(
        "distill",
        "--data",
        f"npz:{tiny_digits}",
        "--teacher",
        "embedded:glyphs100",
        "--classes",
        "0,1,2,3",
        "--student",
        "plain:8-8",
        "--compute",
        "cpu",
        "--augment",
        "crop",
        "--out",
        out,
        *more,
    )


def test_two_processes_leave_one_run(tiny_digits: Path, tmp_path: Path) -> None:
    outcome = distilled(tiny_digits, tmp_path / "run", "--epochs", "2", "--teacher-cache", "1")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr.count("validation accuracy") == 1
    lines = (tmp_path / "run" / "distill" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]
    bundle = open_bundle(tmp_path / "run")
    assert bundle.manifest["distillation"]["epochs"] == 2


def test_a_batch_that_does_not_divide_is_one_sentence(tiny_digits: Path, tmp_path: Path) -> None:
    outcome = distilled(tiny_digits, tmp_path / "run", "--batch-size", "33")
    assert outcome.returncode != 0
    assert "2 processes share equally, and 33 was given; give a multiple of 2" in " ".join(outcome.stderr.split())
    assert "ValueError" not in outcome.stderr
