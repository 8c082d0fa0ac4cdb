"""Fixtures that more than one room's tests share: the embedded teacher and small cuts of the embedded digits."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from command import run_command, write_quick_settings

EMBEDDED = Path(__file__).resolve().parent.parent / "edgedistill" / "embedded"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small models are fastest on one thread, and CI machines are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_tiny_digits(path: Path, classes: str = "0123", counts: tuple[int, int, int] = (40, 15, 20)) -> Path:
    """Cut a few images a class and split out of the embedded digits."""
    with np.load(EMBEDDED / "digits.npz") as source:
        images, labels, split = source["images"], source["labels"], source["split"]
        names = source["class_names"].tolist()
    chosen = [
        np.flatnonzero((labels == names.index(name)) & (split == part))[:count]
        for name in classes
        for part, count in enumerate(counts)
    ]
    rows = np.sort(np.concatenate(chosen))
    np.savez_compressed(
        path, images=images[rows], labels=labels[rows], split=split[rows], class_names=np.array(names)
    )
    return path


@pytest.fixture(scope="session")
def tiny_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An npz of four digits, 40 / 15 / 20 images each."""
    return write_tiny_digits(tmp_path_factory.mktemp("data") / "tiny.npz")


@pytest.fixture(scope="session")
def built_run(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run folder, made once by `edgedistill build`; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("built")
    settings = write_quick_settings(folder / "settings.toml", tiny_digits, epochs=12)
    outcome = run_command("build", "--config", settings, "--out", folder / "run", "--json")
    assert outcome.code in (0, 3, 4), outcome.stderr
    return folder / "run"


@pytest.fixture
def copied_run(built_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may damage."""
    return shutil.copytree(built_run, tmp_path / "run")
