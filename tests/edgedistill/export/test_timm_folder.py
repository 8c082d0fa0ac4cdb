"""The student in timm's layout: timm alone builds it, and its logits are those of the exported file."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from command import run_command
from edgedistill.export.timm_folder import export_timm_folder
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.reference import read_golden


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


@pytest.fixture
def bundle(built_run: Path) -> Bundle:
    return open_bundle(built_run)


def logits_of(folder: Path, images: Any) -> Any:
    """Ask timm's network as timm's users do: pixels in [0, 1], less the mean of its settings, over its deviation."""
    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    resolve = importlib.import_module("timm.data").resolve_model_data_config
    config = resolve(model)
    assert tuple(config["input_size"]) == (3, *images.shape[1:3])
    given = (images / 255.0 - np.array(config["mean"])) / np.array(config["std"])
    with torch.no_grad():
        return model(torch.from_numpy(given.astype(np.float32)).permute(0, 3, 1, 2)).numpy()


def test_timm_builds_the_expert_of_a_run_and_gives_its_logits(built_run: Path) -> None:
    bundle = open_bundle(built_run)
    images, _ = read_golden(bundle.file("golden"))
    session = onnxruntime.InferenceSession(bundle.file("model.fp32"), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(logits_of(built_run / "timm", images), wanted, rtol=1e-3, atol=1e-3)
    config = json.loads(bundle.file("timm.config").read_text(encoding="utf-8"))
    assert config["label_names"] == list(bundle.class_names)
    assert (config["architecture"], config["num_classes"]) == ("resnet10t", 4)


@pytest.mark.parametrize(
    ("name", "width"),
    [("timm:test_vit", 1.0), ("timm:test_convnext", 0.5), ("timm:mobilenetv3_small_050.lamb_in1k", 1.0)],
)
def test_other_architectures_come_back_too(bundle: Bundle, teacher: Teacher, name: str, width: float) -> None:
    size = bundle.preprocess.size
    student = build_student(name, 4, width=width, image_size=size, seed=3).eval()
    made = export_timm_folder(bundle, student, teacher, name=name, width=width)
    assert made.because == ""
    images, _ = read_golden(bundle.file("golden"))
    with torch.no_grad():
        wanted: Any = student(teacher.normalise()(torch.from_numpy(images))).numpy()
    np.testing.assert_allclose(logits_of(bundle.path / "timm", images), wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "because"),
    [
        ("plain:8-8", "a plain student is no architecture of timm"),
        ("timm:resnet18_cifar", "resnet18_cifar is EdgeDistill's own, and no architecture of timm"),
    ],
)
def test_what_timm_cannot_build_is_said_and_leaves_no_folder_of_an_earlier_student(
    bundle: Bundle, teacher: Teacher, name: str, because: str
) -> None:
    assert bundle.has("timm.weights")
    made = export_timm_folder(bundle, build_student(name, 4), teacher, name=name, width=1.0)
    assert made.because == because
    assert not made.bundle.has("timm.weights")
    assert not (bundle.path / "timm").exists()


def test_a_network_that_timm_builds_otherwise_is_not_written(bundle: Bundle, teacher: Teacher) -> None:
    student: Any = build_student("timm:resnet10t", 4, width=0.125, seed=1)
    student.fc.register_forward_hook(lambda module, given, logits: logits + 1)
    made = export_timm_folder(bundle, student, teacher, name="timm:resnet10t", width=0.125)
    assert made.because.startswith("built again by timm, its logits differ by up to 1")
    assert not (bundle.path / "timm").exists()


@pytest.fixture
def licensed(built_run: Path) -> Path:
    shutil.rmtree(built_run / "timm")
    outcome = run_command(
        "export", built_run, "--opset", "17", "--teacher-licence", "apache-2.0", "--data-licence", "cc-by-4.0"
    )
    assert outcome.code == 0, outcome.stderr
    assert f"{built_run / 'timm'} is the expert for timm.create_model" in outcome.stderr
    return built_run


def test_export_writes_the_folder_and_both_cards_with_the_licences_that_were_stated(licensed: Path) -> None:
    read = importlib.import_module("huggingface_hub").ModelCard
    for folder, library in ((licensed, "onnx"), (licensed / "timm", "timm")):
        card = read((folder / "README.md").read_text(encoding="utf-8"))
        assert card.data.library_name == library
        assert card.data.to_dict()["license_name"] == "teacher: apache-2.0, data: cc-by-4.0"
        assert "- data: cc-by-4.0" in card.text
        assert "160 for training" in card.text
    assert 'teacher_licence = "apache-2.0"' in (licensed / "settings.toml").read_text(encoding="utf-8")


def test_a_licence_without_words_is_refused(built_run: Path) -> None:
    outcome = run_command("export", built_run, "--data-licence", " ")
    assert outcome.code == 2
    assert "data_licence must be a line of text such as apache-2.0" in outcome.stderr
