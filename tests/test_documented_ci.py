"""The jobs in docs/ci.md run as they are written: their commands, on bundles that pass, fail, and cannot be judged."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgedistill_cli.exit_codes import gate_code
from edgedistill_deploy.statistics.verdicts import worst_verdict
from reference.class_bundles import ANIMALS, LION, animals, class_bundle, dead_lions

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ci.md"
SOUND = [(LION, LION, LION)] * 40
FEW = [(place, place, place) for place in range(len(ANIMALS)) for _ in range(3)]


def jobs() -> dict[str, Any]:
    """Return the two files of the page, by the name in their first line."""
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {name: importlib.import_module("yaml").safe_load(text) for name, text in blocks}


GITHUB, GITLAB = jobs()[".github/workflows/expert.yml"], jobs()[".gitlab-ci.yml"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An expert that is sound, one that takes every lion for a zebra, and one with too few images to be judged."""
    folder = tmp_path_factory.mktemp("bundles")
    rows = {"pass": animals(SOUND), "fail": animals(dead_lions()), "inconclusive": FEW}
    return {verdict: class_bundle(folder / verdict, rows).path for verdict, rows in rows.items()}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty checkout on a runner whose `edgedistill` is the one that is tested, and is installed already."""
    return tmp_path


def environment(workspace: Path) -> dict[str, str]:
    folder = workspace / "bin"
    folder.mkdir(exist_ok=True)
    command = folder / "edgedistill"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgedistill_cli "$@"\n', encoding="utf-8")
    pip = folder / "pip"
    # The real pip, which finds what is asked for installed; without an index it would have to say that it is not.
    pip.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip --no-input "$@"\n', encoding="utf-8")
    for each in (command, pip):
        each.chmod(0o755)
    paths = [str(folder), *os.environ["PATH"].split(os.pathsep)]
    return {
        **os.environ,
        "PATH": os.pathsep.join(paths),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PIP_NO_INDEX": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "GITHUB_STEP_SUMMARY": str(workspace / "summary.md"),
    }


def run_lines(text: str, workspace: Path) -> int:
    """Run the lines of a step as a runner does, which stops at the first that fails; return the exit code."""
    words = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", text)
    done = subprocess.run(
        words, cwd=workspace, env=environment(workspace), capture_output=True, text=True, timeout=600, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def step(name: str) -> str:
    return str(next(each["run"] for each in GITHUB["jobs"]["gate"]["steps"] if each.get("name") == name))


def suites(path: Path) -> tuple[int, int]:
    """Return how many tests failed or could not run, and how many there are."""
    found = ElementTree.parse(path).getroot().findall("testsuite")
    return sum(int(each.get("failures", 0)) + int(each.get("errors", 0)) for each in found), sum(
        int(each.get("tests", 0)) for each in found
    )


def test_what_the_jobs_install_is_what_the_tests_run_with(workspace: Path) -> None:
    assert step("Install") == GITLAB["default"]["before_script"][0]
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    assert run_lines(step("Install"), workspace) == 0


@pytest.mark.parametrize("verdict", ["pass", "fail", "inconclusive"])
def test_the_parity_gate_ends_with_the_verdict_and_leaves_its_summaries(
    bundles: dict[str, Path], workspace: Path, verdict: Any
) -> None:
    shutil.copytree(bundles[verdict], workspace / "my-expert")
    before = {path: path.read_bytes() for path in (workspace / "my-expert").rglob("*") if path.is_file()}
    assert run_lines(step("As good as its teacher"), workspace) == gate_code(verdict)
    summary = (workspace / "summary.md").read_text(encoding="utf-8")
    assert summary.startswith("## ")
    assert f"EdgeDistill: my-expert {verdict}" in summary
    failed, tests = suites(workspace / "parity.xml")
    assert (failed > 0, tests > 5) == (verdict != "pass", True)
    assert list((workspace / "records" / "parity").glob("*.json"))
    # What was checked out stays as it is.
    assert {path: path.read_bytes() for path in before} == before


def test_gitlabs_job_is_the_same_gate_and_only_an_undecided_one_is_a_warning(
    bundles: dict[str, Path], workspace: Path
) -> None:
    shutil.copytree(bundles["fail"], workspace / "my-expert")
    code = run_lines("\n".join(GITLAB["parity"]["script"]), workspace)
    assert code == gate_code("fail")
    assert GITLAB["parity"]["allow_failure"]["exit_codes"] == gate_code("inconclusive")
    artefacts = GITLAB["parity"]["artifacts"]
    assert artefacts["when"] == "always"
    for name in (artefacts["reports"]["junit"], *artefacts["paths"]):
        assert (workspace / name).exists(), name
    assert "'lion'" in (workspace / "parity.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("commands", [step("Fast enough"), "\n".join(GITLAB["latency"]["script"])])
def test_the_latency_gate_ends_with_the_verdict_that_it_wrote(
    bundles: dict[str, Path], workspace: Path, commands: str
) -> None:
    shutil.copytree(bundles["pass"], workspace / "my-expert")
    code = run_lines(commands, workspace)
    document = json.loads((workspace / "latency.json").read_text(encoding="utf-8"))
    assert code == gate_code(worst_verdict(each["budget"]["verdict"] for each in document["records"]))
    assert {each["precision"] for each in document["records"]} == {"fp32"}
    assert list((workspace / "records" / "latency").glob("*.json"))


def test_what_github_keeps_is_what_its_steps_write(bundles: dict[str, Path], workspace: Path) -> None:
    (upload,) = (each for each in GITHUB["jobs"]["gate"]["steps"] if "upload-artifact" in each.get("uses", ""))
    commands = " ".join(each.get("run", "") for each in GITHUB["jobs"]["gate"]["steps"])
    assert all(name in commands for name in upload["with"]["path"].split())


def test_a_bundle_that_is_damaged_is_an_error_and_hides_no_other(bundles: dict[str, Path], workspace: Path) -> None:
    shutil.copytree(bundles["pass"], workspace / "my-expert")
    shutil.copytree(bundles["fail"], workspace / "other-expert")
    (workspace / "broken").mkdir()
    (command,) = re.findall(r"^edgedistill validate .*$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert run_lines(command.replace("my-expert", "broken my-expert"), workspace) == 1
    failed, _ = suites(workspace / "parity.xml")
    assert failed >= 2
    summary = (workspace / "parity.md").read_text(encoding="utf-8")
    headings = [line for line in summary.splitlines() if line.startswith("#")]
    assert headings == [
        "## ❌ EdgeDistill: 1 of 3 bundles pass", "### ❌ broken error", "### ✅ my-expert pass",
        "### ❌ other-expert fail",
    ]  # fmt: skip
    assert "has no manifest.json" in summary
