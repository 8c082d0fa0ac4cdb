"""TensorRT's real bindings, 10 and 11, over the stand-in: the adapter's path, its refusals, and the command."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command import IN_A_PROCESS
from edgedistill_deploy.onnx_files.graph import read_graph
from tensorrt_standin.build import BINDINGS, UnavailableError, environment, standin

CHECKS = Path(__file__).resolve().parents[3] / "tensorrt_standin"
MAJORS = tuple(BINDINGS)

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module", autouse=True)
def _standins() -> None:
    """Make the stand-ins, or skip with the reason; where EDGEDISTILL_REQUIRE_STANDIN is set, as in CI, fail instead."""
    try:
        for major in MAJORS:
            standin(major)
    except UnavailableError as error:
        if os.environ.get("EDGEDISTILL_REQUIRE_STANDIN"):
            pytest.fail(f"CI must run these tests, but {error}")
        pytest.skip(str(error))


@pytest.fixture(scope="module", params=MAJORS)
def all_checks(request: pytest.FixtureRequest) -> "subprocess.CompletedProcess[str]":
    """What pytest says of all the checks, in one process for each version."""
    options = ("-v", "--noconftest", "-p", "no:cacheprovider", "-o", "python_files=check_*.py")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(CHECKS)],
        env=environment(request.param),
        cwd=CHECKS.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("checks", ["check_api.py", "check_path.py", "check_refusals.py"])
def test_every_check_passes(checks: str, all_checks: "subprocess.CompletedProcess[str]") -> None:
    assert all_checks.returncode == 0, all_checks.stdout[-5000:] + all_checks.stderr[-2000:]
    assert len(re.findall(rf"{checks}::.* PASSED", all_checks.stdout)) > 20


def test_only_the_cast_reads_the_pixels_of_exported_models(built_run: Path) -> None:
    for name in ("model.fp32", "teacher.fp32", "model.int8-tensorrt"):
        path = built_run / f"{name}.onnx"
        assert {node.operator for node in read_graph(path).nodes if "image" in node.inputs} == {"Cast"}, name


@pytest.fixture(params=MAJORS)
def command(request: pytest.FixtureRequest, tmp_path: Path) -> Command:
    """Run `edgedistill` in a process where TensorRT is the stand-in, with a cache of its own."""

    def run(*words: object, **changes: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "edgedistill_cli", *map(str, words)],
            env=environment(request.param, XDG_CACHE_HOME=str(tmp_path / "caches"), **changes),
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_engine_validate_and_profile_share_one_engine(command: Command, built_run: Path, tmp_path: Path) -> None:
    built = command("engine", built_run, "--precision", "int8", "--json", "--out", tmp_path / "mine.engine")
    assert built.returncode == 0, built.stderr
    record = json.loads(built.stdout)
    assert (record["kind"], record["onnx"]["name"]) == ("engine", "model.int8-tensorrt.onnx")
    assert record["proof"]["verdict"] == "proven"
    assert (tmp_path / "mine.engine").read_bytes() == Path(record["path"]).read_bytes()
    assert "tensorrt" not in (built_run / "manifest.json").read_text(encoding="utf-8").replace(
        "int8-tensorrt", ""
    ).replace("int8-fp16-tensorrt", "")
    judged = command("validate", built_run, "--runtime", "tensorrt", "--precision", "int8", "--json")
    assert judged.returncode in (0, 3, 4), judged.stderr
    parity = json.loads(judged.stdout)
    assert (parity["runtime"], parity["provider"]) == ("tensorrt", "tensorrt")
    # ONNX Runtime fuses the same file, so an answer at the edge may differ there; the file itself is what was recorded.
    assert parity["numeric"]["recorded_of"] == "file"
    assert parity["numeric"]["max_abs_error"] < 0.01 * parity["numeric"]["tolerance"]
    assert len(list((tmp_path / "caches").rglob("model.int8-tensorrt-*.engine"))) == 1
    before = sorted(built_run.rglob("*.json"))
    timed = command("profile", built_run, "--runtime", "tensorrt", "--precision", "int8")
    assert timed.returncode == 1
    assert "stand in for TensorRT's in the tests and refuse to be timed" in timed.stderr
    assert sorted(built_run.rglob("*.json")) == before


TIMING = """
import json, sys
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.profiling._fresh_process import FreshProcess

folder = sys.argv[1]
model = {"folder": folder, "model": {"runtime": "tensorrt", "precision": "fp32"}, "batch_size": 1}
config = {"config": {"duration_s": 0.1, "warmup_s": 0.0}}
tasks = {
    "measure": config,
    "end_to_end": config,
    "sustain": {"load": {"rate_per_s": 100.0, "batch_size": 1}},
    "block": {"seconds": 0.1, "batch_size": 1},
    "cold_start": model,
}
said = {}
with FreshProcess() as process:
    process.ask("open", **model)
    for task, arguments in tasks.items():
        try:
            process.ask(task, **arguments)
        except EdgeDistillError as error:
            said[task] = str(error)
print(json.dumps({"asked": list(tasks), "said": said}))
"""


def test_no_task_of_the_measuring_process_times_a_stand_in(built_run: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TIMING, str(built_run)],
        env=environment(10, XDG_CACHE_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told["said"]) == told["asked"]
    assert all("refuse to be timed" in sentence for sentence in told["said"].values())


def test_the_command_tells_what_was_built(command: Command, built_run: Path, tmp_path: Path) -> None:
    built = command("engine", built_run, "--precision", "int8")
    assert built.returncode == 0, built.stderr
    assert re.search(r"The inspector shows (\d+) of \1 weighted layers, in int8 as the file says\.", built.stdout)
    unproven = command(
        "engine", built_run, "--engine-cache", tmp_path / "other", "--precision", "fp32", STANDIN_BUILDS="silent"
    )
    assert unproven.returncode == 4, unproven.stderr
    assert "unproven: The inspector does not tell" in unproven.stdout


def test_ctrl_c_stops_the_build_and_leaves_no_engine(built_run: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            IN_A_PROCESS,
            "engine",
            str(built_run),
            "--precision",
            "fp32",
            "--engine-cache",
            str(tmp_path),
        ],
        env=environment(10, STANDIN_STEP_MS="1000"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while not any("libnvinfer" in line for line in _maps(process.pid)):
            assert process.poll() is None
            time.sleep(0.02)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)  # into the build of ten seconds, on a busy machine too
        process.send_signal(signal.SIGINT)
        message = process.stderr.read()
    assert process.returncode == 130, message
    assert "Interrupted; TensorRT stopped, and no engine was written." in message
    assert not list(tmp_path.glob("*.engine"))


def _maps(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()


def test_an_out_file_that_is_no_engine_is_refused(command: Command, built_run: Path, tmp_path: Path) -> None:
    done = command("engine", built_run, "--out", tmp_path / "engine.json")
    assert done.returncode == 2
    assert "call it FILE.engine" in done.stderr


def test_without_a_compiler_the_tests_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("tensorrt_standin.build._digest", lambda major: "of nothing")
    with pytest.raises(UnavailableError, match=r"needs g\+\+, which is not installed"):
        standin(10)
