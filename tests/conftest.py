"""Fixtures that more than one room's tests share: the embedded teacher and small cuts of the embedded digits."""

import gc
import shutil
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from command import run_command, write_quick_settings, write_tiny_digits
from onnx_registry import keep_operator_tables
from reference.openvino_standin import stand_in
from sharing import made_once
from waiting_threads import keep_threads_from_spinning

GPU_TESTS = Path(__file__).resolve().parent / "gpu"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small models are fastest on one thread, and CI machines are shared; processes that a test starts inherit it.

    Nothing is loaded for it: tests of the device part run without torch, and so does the process that only hands the
    tests out. When torch is loaded later, it takes the number from the environment.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OMP_NUM_THREADS", "1")
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without searching for garbage.

    Collecting loads torch and all else, more than a million objects that stay: to search them for garbage again and
    again, then and while the tests run, took a sixth of the time. From here on the search leaves them out.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m gpu`, read the tests in `tests/gpu` alone: a machine with a GPU may lack what the others import."""
    if config.option.markexpr != "gpu" or collection_path.is_relative_to(GPU_TESTS):
        return None
    return not GPU_TESTS.is_relative_to(collection_path)


def pytest_runtest_setup() -> None:
    """Speed up the exports of this process, and the sessions of ONNX Runtime."""
    keep_operator_tables()
    keep_threads_from_spinning()


@pytest.fixture(scope="session")
def tiny_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz of four digits, 40 / 15 / 20 images each."""
    folder = made_once(tmp_path_factory, "data", lambda folder: write_tiny_digits(folder / "tiny.npz"))
    return folder / "tiny.npz"


@pytest.fixture(scope="session")
def shared_run(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder, made once by `edgedistill build` for all processes; nothing may change it."""

    def build(folder: Path) -> None:
        settings = write_quick_settings(folder / "settings.toml", tiny_digits, epochs=12, teacher_cache='"2"')
        outcome = run_command("build", "--config", settings, "--out", folder / "run", "--json")
        assert outcome.code in (0, 3, 4), outcome.stderr

    return made_once(tmp_path_factory, "built", build) / "run"


@pytest.fixture
def built_run(shared_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run for one test: most commands add records to the run that they are given."""
    return shutil.copytree(shared_run, tmp_path / "run")


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> pytest.MonkeyPatch:
    """An ONNX Runtime with OpenVINO, as far as anybody can tell; see `openvino_standin` for what it can refuse."""
    stand_in(monkeypatch, tmp_path_factory.mktemp("openvino"))
    return monkeypatch
