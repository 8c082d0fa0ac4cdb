"""Weights that must be fetched are known before a library is loaded."""

import socket
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants

from edgedistill.models import at_hand
from edgedistill.models.at_hand import Missing, find_unfetchable, missing_of_student, missing_of_teacher
from edgedistill.models.libraries import reach
from edgedistill.models.timm_list import listed_repository, listed_version
from edgedistill.models.torchvision_list import describes_installed_torchvision, weights_file
from edgedistill_deploy.files import reaching


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def whats(*files: Missing) -> list[str]:
    return [each.what for each in files]


@pytest.mark.skipif(timm.__version__ != listed_version(), reason="the list is of another timm")
def test_the_repositories_of_the_list_are_timms() -> None:
    names = timm.list_models("*.*", pretrained=True)
    assert len(names) > 1000
    wrong = []
    for name in names:
        given = str(timm.get_pretrained_cfg(name).hf_hub_id or "").partition("@")[0]  # type: ignore[union-attr]
        wrong += [name] if listed_repository(name) != (f"timm/{name}" if given == "timm/" else given) else []
    assert not wrong


def test_a_name_without_a_tag_means_the_default_weights() -> None:
    config = timm.get_pretrained_cfg("resnet50")
    assert config is not None
    assert listed_repository("resnet50") == f"timm/resnet50.{config.tag}"
    assert listed_repository("lcnet_035") == ""  # it has none
    assert listed_repository("no-such-model") == ""


@pytest.mark.parametrize(
    ("teacher", "folder"),
    [
        ("timm:test_resnet.r160_in1k", "models--timm--test_resnet.r160_in1k"),
        ("timm:hf-hub:someone/net", "models--someone--net"),
        ("transformers:someone/net", "models--someone--net"),
    ],
)
def test_what_the_hubs_cache_has_need_not_be_fetched(empty_caches: Path, teacher: str, folder: str) -> None:
    (missing,) = missing_of_teacher(teacher)
    assert teacher in missing.what
    (empty_caches / "hub" / folder).mkdir(parents=True)
    assert not list(missing_of_teacher(teacher))


def test_files_of_torchvision_are_looked_for_where_torch_keeps_them(empty_caches: Path) -> None:
    assert reach.torch_cache() == Path(torch.hub.get_dir()) / "checkpoints"
    assert whats(*missing_of_teacher("torchvision:resnet50")) == ["The pretrained weights of torchvision:resnet50"]
    reach.torch_cache().mkdir(parents=True)
    (reach.torch_cache() / "resnet50-0676ba61.pth").touch()  # IMAGENET1K_V1; the default is another one
    assert list(missing_of_teacher("torchvision:resnet50"))
    assert not list(missing_of_teacher("torchvision:resnet50:IMAGENET1K_V1"))
    assert not list(missing_of_teacher("torchvision:resnet5O"))  # no such name, which is another problem


@pytest.mark.skipif(not describes_installed_torchvision(), reason="the list is of another torchvision")
def test_the_files_of_the_list_are_torchvisions() -> None:
    from torchvision import models

    for name in models.list_models(module=models):
        entries: Any = models.get_model_weights(name)
        for each in entries:
            assert each.url.endswith(f"/{weights_file(f'{name}:{each.name}')}")
            assert each.meta["categories"] is None or len(each.meta["categories"]) == 1000
        assert entries.DEFAULT.url.endswith(f"/{weights_file(name)}")


@pytest.mark.parametrize("teacher", ["embedded:glyphs100", "python:mine:make", "some/folder", "timm:lcnet_035"])
def test_other_teachers_fetch_nothing(teacher: str) -> None:
    assert not list(missing_of_teacher(teacher))


@pytest.mark.parametrize(
    ("name", "weights", "width", "fetches"),
    [
        ("timm:test_resnet", "auto", 1.0, True),
        ("timm:test_resnet", "pretrained", 1.0, True),
        ("timm:test_resnet", "none", 1.0, False),
        ("timm:test_resnet", "file.pth", 1.0, False),
        ("timm:test_resnet", None, 1.0, False),
        ("timm:test_resnet", "auto", 0.5, False),
        ("plain:8-8", "auto", 1.0, False),
    ],
)
def test_a_student_fetches_what_it_starts_from(name: str, weights: str | None, width: float, fetches: bool) -> None:
    assert bool(list(missing_of_student(name, weights, width))) == fetches


def test_another_timm_may_keep_its_weights_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "installed_version", lambda: "0.0.1")
    assert not list(missing_of_teacher("timm:test_resnet"))


def test_a_server_that_answers_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [*missing_of_teacher("timm:test_resnet"), *missing_of_student("timm:test_vit", "auto", 1.0)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(reaching, "REACH_S", 0.2)
        first, second = find_unfetchable(files)  # it takes the connection and says nothing
    assert str(first).startswith("The pretrained weights of timm:test_resnet are not on this machine, and 127.0.0.1")
    assert str(second).startswith("The pretrained weights of timm:test_vit are not on this machine")
    assert "--teacher-weights" in str(first)
    assert "--student-weights none" in str(second)
    monkeypatch.setattr(at_hand, "why_hub_is_shut", lambda: "")
    assert not find_unfetchable(files)
