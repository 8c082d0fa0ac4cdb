"""Where a student starts: the trained tensors, the rows of its classes, its own pixels, and what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import nn

from edgedistill.export.deployed import Deployed
from edgedistill.models.normalise import Normalise, normalise_of
from edgedistill.models.start import ClassAliases, GroupAliases, begin_student, find_start, mark_started
from edgedistill.models.student import build_student
from edgedistill_deploy.errors import DataError, UsageError

NAME = "timm:test_resnet"
LABELS = ("zebra", "goldfish, Carassius auratus", "Red Fox", "lion")


def trained() -> Any:
    """A network of other classes whose tensors all differ from a new one's, counters and statistics too."""
    torch.manual_seed(11)
    model: nn.Module = timm.create_model("test_resnet", num_classes=len(LABELS))
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand_like(tensor.float()) + 0.5)
    return model


def write_folder(folder: Path) -> Path:
    labels = {"num_classes": len(LABELS), "label_names": list(LABELS)}
    save_for_hf(trained(), str(folder), labels, safe_serialization=True)
    return folder


def test_a_folder_gives_its_tensors_and_the_rows_of_the_classes_by_name(tmp_path: Path) -> None:
    weights = write_folder(tmp_path / "mine")
    student: Any = build_student(NAME, 3, seed=4)
    fresh = student.fc.weight.clone()
    aliases = [("red fox", "other"), ("my own", "unknown"), ("carassius auratus", "goldfish")]
    record = begin_student(student, find_start(NAME, str(weights)), aliases)
    given = trained().state_dict()
    for name, tensor in student.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(tensor, given[name]), name
    assert torch.equal(student.fc.weight[[0, 2]], given["fc.weight"][[2, 1]])
    assert torch.equal(student.fc.bias[[0, 2]], given["fc.bias"][[2, 1]])
    assert torch.equal(student.fc.weight[1], fresh[1])
    assert record.sentence().endswith("trained weights of mine; the head starts from 2 of 3 trained rows")
    assert record.weights_sha256 == hashlib.sha256((weights / "model.safetensors").read_bytes()).hexdigest()


def test_the_teachers_label_finds_a_row_that_the_given_name_does_not(tmp_path: Path) -> None:
    student: Any = build_student(NAME, 2)
    start = find_start(NAME, str(write_folder(tmp_path / "mine")))
    record = begin_student(student, start, [("king of beasts", "lion"), ("zebra", "zebra")])
    assert record.head_rows == 2
    assert torch.equal(student.fc.weight, trained().fc.weight[[3, 0]])


def test_a_group_starts_from_the_mean_of_its_members_rows(tmp_path: Path) -> None:
    student: Any = build_student(NAME, 4, seed=4)
    fresh = student.fc.weight.clone()
    aliases: list[ClassAliases] = [
        GroupAliases(own="animal", members=(("red fox", "x"), ("king of beasts", "lion"), ("unknown", "y"))),
        GroupAliases(own="zebra", members=(("nothing", "here"),)),
        GroupAliases(own="nothing", members=(("here", "either"),)),
        ("goldfish", "z"),
    ]
    record = begin_student(student, find_start(NAME, str(write_folder(tmp_path / "mine"))), aliases)
    given = trained().state_dict()
    assert torch.allclose(student.fc.weight[0], (given["fc.weight"][2] + given["fc.weight"][3]) / 2)
    assert torch.allclose(student.fc.bias[0], (given["fc.bias"][2] + given["fc.bias"][3]) / 2)
    assert torch.equal(student.fc.weight[[1, 3]], given["fc.weight"][[0, 1]])
    assert torch.equal(student.fc.weight[2], fresh[2])
    assert (record.head_rows, record.head_classes) == (3, 4)


def test_a_file_without_labels_gives_all_but_the_head(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in trained().state_dict().items()}, path)
    student: Any = build_student(NAME, 4, seed=2)
    record = begin_student(student, find_start(NAME, str(path)), [(name,) for name in LABELS])
    assert torch.equal(student.layer1[0].conv1.weight, trained().layer1[0].conv1.weight)
    fresh: Any = build_student(NAME, 4, seed=2)
    assert torch.equal(student.fc.weight, fresh.fc.weight)
    assert record.head_rows == 0
    assert "its head is new" in record.sentence()
    assert any("module." in note for note in record.notes)


def test_a_started_student_keeps_its_own_pixels_and_another_takes_the_teachers(tmp_path: Path) -> None:
    student = build_student(NAME, 2)
    teachers = Normalise((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert normalise_of(student, teachers) is teachers
    record = begin_student(student, find_start(NAME, str(write_folder(tmp_path / "mine"))), [("lion",), ("zebra",)])
    pixels = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        expected = student.eval()((pixels.permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    deployed = Deployed(student, normalise_of(student, teachers)).eval()
    with torch.no_grad():
        given = deployed(pixels)
    assert torch.allclose(given, expected, rtol=1e-4, atol=1e-3 * float(expected.abs().max()))
    again = build_student(NAME, 2)
    mark_started(again, record.to_json())
    assert torch.equal(normalise_of(again, teachers)(pixels), normalise_of(student, teachers)(pixels))


@pytest.mark.parametrize(
    ("name", "weights", "width", "because"),
    [
        ("plain:4-8", "auto", 1.0, "a plain student has no trained weights"),
        ("timm:resnet10t", "auto", 0.5, "its width is scaled by 0.5"),
        ("timm:lcnet_035", "auto", 1.0, "timm has no trained weights for lcnet_035"),
        ("timm:resnet10t", "none", 1.0, "student.weights is none"),
        ("timm:resnet10t", None, 1.0, "its settings are of a version that had no trained weights"),
    ],
)
def test_what_starts_from_nothing_says_why(name: str, weights: str | None, width: float, because: str) -> None:
    start = find_start(name, weights, width)
    student = build_student(name, 2, width=width)
    before = {key: tensor.clone() for key, tensor in student.state_dict().items()}
    record = begin_student(student, start, [("a",), ("b",)])
    assert record.sentence() == f"the student starts from nothing: {because}"
    assert all(torch.equal(tensor, before[key]) for key, tensor in student.state_dict().items())


@pytest.mark.parametrize("weights", ["auto", "pretrained"])
def test_without_network_it_says_how_to_start_from_nothing(monkeypatch: pytest.MonkeyPatch, weights: str) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"weights of timm:test_resnet .* give --student-weights none"):
        find_start(NAME, weights)


@pytest.mark.parametrize(
    ("name", "weights", "width", "message"),
    [
        ("plain:4-8", "pretrained", 1.0, "a plain student has no trained weights"),
        ("timm:lcnet_035", "pretrained", 1.0, "timm has no trained weights for lcnet_035"),
        (NAME, "mine", 0.5, "its width is scaled by 0.5"),
        (NAME, "absent.safetensors", 1.0, r"There is no absent\.safetensors"),
    ],
)
def test_weights_that_a_student_cannot_have_are_refused(name: str, weights: str, width: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_start(name, weights, width)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no model\.safetensors"):
        find_start(NAME, str(tmp_path))


def test_weights_of_another_architecture_are_refused_from_both_sides(tmp_path: Path) -> None:
    start = find_start("timm:resnet10t", str(write_folder(tmp_path / "mine")))
    with pytest.raises(
        DataError, match=r"The weights mine do not fit the student: .*only the file has.*--student timm:"
    ):
        begin_student(build_student("timm:resnet18", 2), start, [("a",), ("b",)])
