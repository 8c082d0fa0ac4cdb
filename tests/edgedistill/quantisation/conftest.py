"""What the tests of readiness and of recovery share, because it takes seconds to make."""

from pathlib import Path

import pytest

from reference.planted_students import PlantedExpert, make_planted, open_planted
from sharing import made_once


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory, tiny_digits: Path) -> PlantedExpert:
    """A calibrated expert with one channel that INT8 cannot bear; nobody changes it."""
    return open_planted(
        made_once(tmp_path_factory, "planted", lambda folder: make_planted(folder, tiny_digits)), tiny_digits
    )
