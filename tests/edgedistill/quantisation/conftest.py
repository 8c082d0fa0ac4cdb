"""What the tests of readiness and of recovery share, because it takes seconds to make."""

from pathlib import Path

import pytest

from reference.planted_students import PlantedExpert, planted_expert


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_digits: Path) -> PlantedExpert:
    """A calibrated expert with one channel that INT8 cannot bear; nobody changes it."""
    return planted_expert(tmp_path_factory.mktemp("planted"), tiny_digits)
