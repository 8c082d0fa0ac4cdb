import importlib

import pytest

import edgedistill_deploy


def test_every_promised_name_is_that_of_its_module() -> None:
    promised = {name for names in edgedistill_deploy._HOMES.values() for name in names}
    assert promised | {"__version__"} == set(edgedistill_deploy.__all__)
    for module, names in edgedistill_deploy._HOMES.items():
        home = importlib.import_module(f"edgedistill_deploy.{module}")
        for name in names:
            assert getattr(edgedistill_deploy, name) is getattr(home, name)


def test_promised_names_are_listed() -> None:
    assert set(edgedistill_deploy.__all__) <= set(dir(edgedistill_deploy))


def test_unknown_names_are_ordinary_attribute_errors() -> None:
    with pytest.raises(AttributeError, match=r"module 'edgedistill_deploy' has no attribute 'open_bundel'"):
        edgedistill_deploy.open_bundel  # noqa: B018  # looking it up is what is tested
