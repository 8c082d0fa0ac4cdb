"""What people install: the built wheel, away from the checkout."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
START = "from edgedistill_cli.app import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("edgedistill-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(installed: Path, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    words = [sys.executable, "-c", START, *(str(word) for word in argv)]
    return subprocess.run(words, cwd=installed.parent, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_four_packages_and_nothing_else(installed: Path) -> None:
    names = {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"edgedistill", "edgedistill_calibration", "edgedistill_cli", "edgedistill_deploy"}
    for package in names:
        assert (installed / package / "py.typed").is_file()
    templates = installed / "edgedistill_deploy" / "integration" / "templates"
    assert {path.name for path in templates.iterdir()} == {"predict.py.txt", "predict.js.txt", "predict.cpp.txt"}


def test_the_code_that_runs_is_the_wheels(installed: Path) -> None:
    code = "import edgedistill, edgedistill_deploy; print(edgedistill.__file__, edgedistill_deploy.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env=environment, capture_output=True, text=True, check=True
    )
    assert all(path.startswith(str(installed)) for path in done.stdout.split())


def test_a_run_made_in_the_checkout_is_checked_and_reported_by_the_wheel(installed: Path, built_run: Path) -> None:
    validated = run_installed(installed, "validate", built_run, "--precision", "fp32", "--max-drop", "0.9")
    assert validated.returncode == 0, validated.stderr
    (built_run / "report.html").unlink()
    assert run_installed(installed, "report", built_run).returncode == 0
    assert (built_run / "report.html").is_file()


def test_the_embedded_default_is_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    argv = ("distill", "--data", "embedded:digits", "--teacher", "embedded:glyphs100", "--classes", "3,8", "--student")
    done = run_installed(
        installed, *argv, "plain:4-4", "--epochs", "1", "--augment", "none", "--preset", "labels", "--out",
        tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert run_installed(installed, "init", tmp_path / "settings.toml").returncode == 0


def test_an_installed_wheel_sends_the_same_device_part_as_the_checkout(installed: Path) -> None:
    from edgedistill_deploy.remote._wheel import build_wheel

    code = (
        "import hashlib; from edgedistill_deploy.remote._wheel import build_wheel; "
        "print(hashlib.sha256(build_wheel()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(build_wheel()).hexdigest()
