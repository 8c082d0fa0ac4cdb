import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from command import EMBEDDED
from edgedistill.models.teacher import load_teacher
from edgedistill_deploy.errors import DataError, UsageError

SMALL = "resnet10t"


def small_weights(path: Path, classes: int = 3) -> Path:
    model = timm.create_model(SMALL, num_classes=classes, channels=(64, 128, 256, 512))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path)
    return path


def label_file(path: Path, labels: str = "cat\ndog\nfox\n") -> Path:
    path.write_text(labels, encoding="utf-8")
    return path


def test_the_embedded_teacher_knows_its_labels_and_preprocessing() -> None:
    teacher = load_teacher("embedded:glyphs100")
    assert len(teacher.class_names) == 100
    assert teacher.class_names[:3] == ("0", "1", "2")
    assert teacher.preprocess.size == (64, 64)
    assert teacher.mean == (0.13, 0.13, 0.13)
    assert not teacher.model.training
    assert next(teacher.model.parameters()).dtype == torch.float32


def test_normalisation_is_that_of_the_teachers_training() -> None:
    teacher = load_teacher("embedded:glyphs100")
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    expected = (pixels.permute(0, 3, 1, 2).double() / 255 - 0.13) / 0.30
    assert torch.allclose(teacher.normalise()(pixels).double(), expected, atol=1e-6)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file_fill_a_timm_model(tmp_path: Path, suffix: str) -> None:
    teacher = load_teacher(
        f"timm:{SMALL}",
        weights=small_weights(tmp_path / f"weights{suffix}"),
        classes=label_file(tmp_path / "labels.txt"),
        image_size=64,
    )
    assert teacher.class_names == ("cat", "dog", "fox")
    assert teacher.preprocess.size == (64, 64)
    assert teacher.model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


def test_a_vision_transformer_takes_another_image_size(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    teacher = load_teacher(
        "timm:vit_tiny_patch16_224",
        weights=tmp_path / "vit.safetensors",
        classes=label_file(tmp_path / "labels.txt", "a\nb\n"),
        image_size=64,
    )
    assert teacher.model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_a_local_folder_is_a_teacher_too(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED / "glyphs100", tmp_path / "mine")
    assert load_teacher(str(folder)).class_names == load_teacher("embedded:glyphs100").class_names


def test_weights_that_carry_code_are_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (marker,)

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(DataError, match="cannot be read without running code"):
        load_teacher(f"timm:{SMALL}", weights=tmp_path / "evil.pth", classes=label_file(tmp_path / "l.txt"))
    assert not marker.exists()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights file .*nowhere\.safetensors"):
        load_teacher(f"timm:{SMALL}", weights=tmp_path / "nowhere.safetensors")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    weights = small_weights(tmp_path / "w.safetensors")
    with pytest.raises(
        DataError, match=r"do not fit timm:resnet18: 49 of 102 names match; only the file has `conv1\.0\.weight`"
    ):
        load_teacher("timm:resnet18", weights=weights, classes=label_file(tmp_path / "l.txt"))


def test_a_truncated_weights_file_is_refused(tmp_path: Path) -> None:
    weights = small_weights(tmp_path / "w.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read"):
        load_teacher(f"timm:{SMALL}", weights=weights, classes=label_file(tmp_path / "l.txt"))


def test_labels_must_match_the_outputs(tmp_path: Path) -> None:
    weights = small_weights(tmp_path / "w.safetensors", classes=4)
    with pytest.raises(UsageError, match="has 4 outputs, and 3 labels were given, the first of them 'cat'"):
        load_teacher(f"timm:{SMALL}", weights=weights, classes=label_file(tmp_path / "l.txt"))
    with pytest.raises(UsageError, match=r"carries no labels for its 4 outputs.*--teacher-classes"):
        load_teacher(f"timm:{SMALL}", weights=weights)
    with pytest.raises(UsageError, match="no class file"):
        load_teacher(f"timm:{SMALL}", weights=weights, classes=tmp_path / "none.txt")
    with pytest.raises(UsageError, match="has 100 outputs, and 3 labels were given, the first of them 'cat'"):
        load_teacher("embedded:glyphs100", classes=label_file(tmp_path / "l.txt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("café\n".encode("latin-1"), "class file .* is not text in UTF-8"),
        ("a\nb\n".encode("utf-16"), "class file .* is not text in UTF-8"),
        (b"a\n\x1b[2Jb\n", r"has the label '\\x1b\[2Jb', with a control character"),
        (b"a\0b\n", "with a control character"),
    ],
)
def test_class_files_that_are_no_plain_text_are_refused_in_a_sentence(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        load_teacher("embedded:glyphs100", classes=tmp_path / "l.txt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5O", "timm has no model 'resnet5O'.*Did you mean resnet50"),
        ("nowhere", "neither timm:NAME, .* nor an existing folder"),
        ("embedded:glyphs", "no embedded teacher"),
    ],
)
def test_unknown_teachers_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_teacher(name)


def test_a_folder_that_lacks_or_damages_a_part_is_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED / "glyphs100", tmp_path / "mine")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no model\.safetensors"):
        load_teacher(str(folder))
    (folder / "model.safetensors").write_bytes(weights[:5000])
    with pytest.raises(DataError, match="cannot be loaded"):
        load_teacher(str(folder))
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be loaded"):
        load_teacher(str(folder))
    with pytest.raises(UsageError, match="carries its own weights"):
        load_teacher(str(folder), weights=tmp_path / "w.safetensors")


def test_weights_that_cannot_be_fetched_say_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE forbids to fetch them; .*--teacher-weights"):
        load_teacher("timm:resnet18.a1_in1k")


def test_the_embedded_half_precision_weights_are_as_good(tmp_path: Path) -> None:
    config = json.loads((EMBEDDED / "glyphs100" / "config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == "resnet18"
    with np.load(EMBEDDED / "digits.npz") as data:
        test = data["split"] == 2
        images, labels = data["images"][test], data["labels"][test]
    teacher = load_teacher("embedded:glyphs100")
    enlarged = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None].float(), scale_factor=2, mode="bilinear", align_corners=False
    )
    with torch.no_grad():
        pixels = enlarged.round().byte().permute(0, 2, 3, 1).expand(-1, -1, -1, 3)
        digits = teacher.model(teacher.normalise()(pixels))[:, :10].argmax(dim=1).numpy()
    assert round(100 * float((digits == labels).mean()), 1) >= 95.2
