"""Fixtures that more than one room's tests share: the embedded teacher and small cuts of the embedded digits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

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
