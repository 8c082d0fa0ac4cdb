"""What the libraries of training write on a full disk: one sentence, and the old file stays."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.comparison.results import Results
from edgedistill.distillation._checkpoint import write_checkpoint
from edgedistill.distillation.objective import Guidance
from edgedistill.distillation.teacher_cache import Answers, write_teacher_cache
from edgedistill.export.deployed import Deployed
from edgedistill.export.onnx_writing import write_onnx
from edgedistill.models.normalise import Normalise
from edgedistill.models.student import write_student
from edgedistill.subspaces.directions import Subspace
from edgedistill.subspaces.files import save_subspaces
from edgedistill_deploy.errors import NotWrittenError
from reference.small_disks import largest_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")

LIMIT = 200_000
SUBSPACE = Subspace(
    layer="layer",
    mean=torch.zeros(250),
    basis=torch.zeros(250, 1000),
    eigenvalues=torch.zeros(250),
    variance=torch.zeros(1000),
    sample_count=1,
)
ANSWERS = Answers(
    indices=torch.arange(4),
    pixels=torch.zeros(4, 32, 32, 3, dtype=torch.uint8),
    guidance=Guidance(logits=torch.zeros(4, 3), targets={}),
)


def wide() -> nn.Module:
    return nn.Linear(500, 500)


def save_checkpoint(path: Path) -> None:
    write_checkpoint(path, {"weights": wide().state_dict(), "epoch": 1}, path.parent)


def add_result(path: Path) -> None:
    Results(path.parent).add({"key": "a", "kind": "train", "text": "x" * 300_000})


@pytest.mark.parametrize(
    ("name", "write", "needed"),
    [
        ("state.pt", save_checkpoint, "It needs at least 200 kB."),
        ("student.safetensors", lambda path: write_student(wide(), path), "It needs 1.0 MB."),
        ("subspaces.safetensors", lambda path: save_subspaces(path, {"layer": SUBSPACE}), "It needs 1.0 MB."),
        ("results.jsonl", add_result, "It needs 301 kB."),
    ],
)
def test_a_full_disk_is_named_by_what_training_writes(
    tmp_path: Path, name: str, write: Callable[[Path], None], needed: str
) -> None:
    with largest_file(LIMIT), pytest.raises(NotWrittenError) as caught:
        write(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name} cannot be written: File too large. {needed} Make room in ")


def test_a_full_disk_is_no_fault_of_the_exporter(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 300)).eval()
    model = Deployed(network, Normalise((0.5,) * 3, (0.5,) * 3))
    with largest_file(LIMIT), pytest.raises(NotWrittenError, match=r"model\.onnx cannot be written: File too large"):
        write_onnx(model, (16, 16), tmp_path / "model.onnx", opset=17, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_cache_takes_its_room_before_it_is_mapped(tmp_path: Path) -> None:
    with largest_file(LIMIT), pytest.raises(NotWrittenError, match="cannot be written: File too large"):
        write_teacher_cache(tmp_path / "teacher-cache", {}, 100, [(0, [ANSWERS])], {0: np.zeros((100, 5), np.int16)})
