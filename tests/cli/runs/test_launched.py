"""The command in two processes that train together, as `accelerate launch` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

from command import call_command
from edgedistill_deploy.bundle.folder import open_bundle
from forking import fork_two

# `accelerate launch --cpu --num_processes 2` would start one process: its CPU launcher knows only MPI.
LAUNCH_TWO = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--num_cpu_threads_per_process",
    "1",
]


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *LAUNCH_TWO, "-m", "edgedistill_cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def distill(tiny_digits: Path, out: Path, *more: str) -> list[str]:
    return [
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
        str(out),
        *more,
    ]


def test_two_processes_leave_one_run(tiny_digits: Path, tmp_path: Path) -> None:
    outcome = launched(*distill(tiny_digits, tmp_path / "run", "--epochs", "2", "--teacher-cache", "1"))
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stderr.count("validation accuracy") == 1
    lines = (tmp_path / "run" / "distill" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1]
    bundle = open_bundle(tmp_path / "run")
    assert bundle.manifest["distillation"]["epochs"] == 2


def test_a_batch_that_does_not_divide_is_one_sentence(tiny_digits: Path, tmp_path: Path) -> None:
    for code, said in fork_two(
        call_command, *distill(tiny_digits, tmp_path / "run", "--batch-size", "33"), folder=tmp_path
    ):
        assert code != 0
        assert "2 processes share equally, and 33 was given; give a multiple of 2" in " ".join(said.split())
        assert "ValueError" not in said
