"""What takes long to make and many tests use is made once, by whichever of the suite's processes needs it first."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgedistill_deploy.files.locks import ProcessLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, for all processes of this run of the suite; nobody changes what is in it.

    When `make` fails, each process that needs the folder tries again and fails alike.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder = root / f"shared-{name}"
    with ProcessLock(root / f"shared-{name}.lock"):
        if not folder.exists():
            unfinished = factory.mktemp(name)
            make(unfinished)
            unfinished.rename(folder)
    return folder
