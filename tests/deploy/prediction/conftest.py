"""A bundle whose model tells red, green and yellow pictures apart, and pictures of these colours."""

import shutil
from pathlib import Path

import pytest

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from reference.colour_bundles import colour_bundle


@pytest.fixture(scope="session")
def made_colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a bundle that nobody changes."""
    return colour_bundle(tmp_path_factory.mktemp("colours") / "bundle", 12)


@pytest.fixture
def colours(made_colours: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy that a test may change."""
    return open_bundle(shutil.copytree(made_colours.path, tmp_path / "bundle"))
