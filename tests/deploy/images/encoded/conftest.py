"""What the tests of sources share: a cache of their own, and one set of pictures."""

from pathlib import Path

import pytest

from reference.image_sources import write_pictures


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where this test's indices are kept."""
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six pictures each of cat and dog."""
    root = tmp_path_factory.mktemp("pictures")
    write_pictures(root)
    return root
