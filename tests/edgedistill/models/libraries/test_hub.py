"""Weights of the hub: the cache is used first, and a machine without network is told at once."""

import socket
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files import reaching
from reference.foreign_teachers import LABELS, small_timm, write_transformers_folder

NAME = "test_resnet.r160_in1k"


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a hub at a port of this machine on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    return tmp_path / "hub"


def cache_weights(cache: Path, model: torch.nn.Module) -> None:
    """Put weights where the hub's client keeps what it has fetched."""
    repository = cache / f"models--timm--{NAME}"
    (repository / "snapshots" / "a1b2c3").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a1b2c3")
    save_file(model.state_dict(), repository / "snapshots" / "a1b2c3" / "model.safetensors")


def test_a_hub_that_does_not_answer_is_asked_once(unreachable: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError) as refused:
        load_teacher(f"timm:{NAME}")
    assert str(refused.value) == (
        f"The pretrained weights of timm:{NAME} are not on this machine, and 127.0.0.1 could not be reached "
        "(Connection refused); give a file with --teacher-weights, or a teacher folder in timm's layout."
    )
    assert "Retrying" not in caplog.text


def test_a_name_server_that_hangs_is_not_waited_for(unreachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "REACH_S", 0.2)
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(DataError, match=r"127\.0\.0\.1 could not be reached \((no answer|timed out)\)"):
            load_teacher(f"timm:{NAME}")


def test_the_time_to_wait_is_below_ten_seconds() -> None:
    assert reaching.REACH_S <= 5


def test_weights_in_the_cache_need_no_hub(unreachable: Path) -> None:
    model = small_timm("test_resnet", classes=1000)
    cache_weights(unreachable, model)
    teacher = load_teacher(f"timm:{NAME}")
    images = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(teacher.model(images), model(images))
    assert len(teacher.class_names) == 1000
    assert constants.HF_HUB_OFFLINE is False


def test_a_cache_that_lacks_the_weights_is_completed_from_the_hub(unreachable: Path) -> None:
    cache_weights(unreachable, small_timm("test_resnet", classes=1000))
    next(unreachable.rglob("model.safetensors")).unlink()
    with pytest.raises(DataError, match=r"not on this machine, and 127\.0\.0\.1 could not be reached"):
        load_teacher(f"timm:{NAME}")


def test_a_folder_in_the_cache_that_is_no_classifier_is_told_as_such(unreachable: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    snapshot = unreachable / "models--owner--bare" / "snapshots" / "a1b2c3"
    write_transformers_folder(snapshot)
    library.ViTModel(library.ViTConfig.from_pretrained(snapshot)).save_pretrained(snapshot)
    (unreachable / "models--owner--bare" / "refs").mkdir()
    (unreachable / "models--owner--bare" / "refs" / "main").write_text("a1b2c3")
    with pytest.raises(DataError, match="transformers:owner/bare is not a trained classifier"):
        load_teacher("transformers:owner/bare")
    write_transformers_folder(snapshot)
    assert load_teacher("transformers:owner/bare").class_names == LABELS


def test_the_hub_is_not_asked_where_its_variable_forbids_it(unreachable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"not on this machine, and HF_HUB_OFFLINE forbids to fetch them"):
        load_teacher(f"timm:{NAME}")


def test_torchvisions_server_is_asked_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(reaching, "REACH_S", 0.0)
    with pytest.raises(DataError, match=r"are not on this machine, and download\.pytorch\.org could not be reached"):
        load_teacher("torchvision:squeezenet1_1")
