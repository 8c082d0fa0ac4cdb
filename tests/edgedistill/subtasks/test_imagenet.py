"""ImageNet's labels and synset ids: among a teacher's classes, in the superclasses, and as names of folders."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from PIL import Image
from timm.data.imagenet_info import ImageNetInfo

from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.models.teacher import load_teacher
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill.subtasks.named import named_subtask_classes
from edgedistill.subtasks.subtask import find_subtask
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.errors import UsageError

# How many classes of ImageNet-1k lie below each synset in WordNet 3.0, and one of them by its place among the thousand.
_SUPERCLASSES = {
    "wading-bird": (16, 134, "n02012849"),
    "retriever": (5, 207, "n02099601"),
    "working-dog": (30, 235, "n02106662"),
    "domestic-cat": (5, 281, "n02123045"),
    "bag": (5, 414, "n02769748"),
    "bottle": (7, 898, "n04557648"),
    "box": (6, 637, "n03710193"),
    "truck": (8, 555, "n03345487"),
}


@pytest.mark.parametrize("subset", ["imagenet-1k", "imagenet-12k", "imagenet-22k"])
def test_every_label_is_there_once_and_in_timms_order(subset: str) -> None:
    info: Any = ImageNetInfo(subset)
    labels = imagenet_labels(subset)
    assert len(labels) == len(set(labels)) == info.num_classes()
    for index in range(0, len(labels), 97):
        assert labels[index].startswith(info.index_to_description(index))
    if subset == "imagenet-1k":
        assert list(labels_of_synsets()) == [info.index_to_label_name(index) for index in range(len(labels))]


def test_the_two_cranes_are_told_apart_by_their_synsets() -> None:
    labels = imagenet_labels()
    assert (labels[134], labels[517]) == ("crane, n02012849", "crane, n03126707")
    subtask = find_subtask(labels, ["n03126707", "n02012849", "tench"])
    assert subtask.class_indices == (517, 134, 0)
    with pytest.raises(
        UsageError, match=r"'crane' can mean 2 classes: crane \(bird\), n02012849; crane \(device\), n0"
    ):
        find_subtask(labels, ["crane", "tench"])


@pytest.mark.parametrize("name", _SUPERCLASSES)
def test_superclasses_are_spelled_as_timms_teachers_spell_them(name: str) -> None:
    count, index, synset = _SUPERCLASSES[name]
    classes = named_subtask_classes(f"imagenet/{name}")
    subtask = find_subtask(imagenet_labels(), classes)
    assert len(subtask) == count
    assert subtask.class_names == classes
    assert list(subtask.class_indices) == sorted(subtask.class_indices)
    assert index in subtask.class_indices
    assert labels_of_synsets()[synset] in classes


def test_superclasses_share_no_class() -> None:
    everything = [each for name in _SUPERCLASSES for each in named_subtask_classes(f"imagenet/{name}")]
    assert len(everything) == len(set(everything)) == 82


def test_a_synset_id_names_its_class_by_the_teachers_label() -> None:
    subtask = find_subtask(imagenet_labels(), ["n02099601", "tabby"])
    assert subtask.class_indices == (207, 281)
    assert subtask.class_names == ("golden retriever", "tabby")
    with pytest.raises(UsageError, match="'n02099601' and 'golden retriever' are one class, 'golden retriever'"):
        find_subtask(imagenet_labels(), ["n02099601", "golden retriever"])
    with pytest.raises(UsageError, match="The teacher has no class 'n02099601'"):
        find_subtask(["cat", "dog"], ["n02099601", "cat"])
    with pytest.raises(UsageError, match="The teacher has no class 'n99999999'"):
        find_subtask(imagenet_labels(), ["n99999999", "tabby"])


def test_a_label_that_a_teacher_carries_twice_names_neither_class() -> None:
    with pytest.raises(UsageError, match="'crane' is the name of 2 classes, and nothing tells them apart"):
        find_subtask(["crane", "crane", "ape", "bat"], ["crane", "ape"])


def test_a_teacher_of_a_thousand_classes_has_these_labels(tmp_path: Path) -> None:
    import torch

    torch.save(timm.create_model("resnet10t").state_dict(), tmp_path / "weights.pth")
    teacher = load_teacher("timm:resnet10t", weights=tmp_path / "weights.pth")
    assert teacher.class_names == imagenet_labels()
    assert len(teacher.subtask(named_subtask_classes("imagenet/wading-bird"))) == 16


def _write_images(root: Path, names: list[str], count: int = 6) -> None:
    random = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}.png")


def test_folders_named_by_synsets_are_found_by_label_and_by_synonym(tmp_path: Path) -> None:
    _write_images(tmp_path, ["n02123045", "n02099601", "n02012849", "n03126707"])
    source = open_source(str(tmp_path))
    assert source.class_names == ("crane, n02012849", "golden retriever", "tabby, tabby cat", "crane, n03126707")
    subtask = find_subtask(imagenet_labels(), ["tabby cat", "n02012849", "golden retriever"])
    parts = split_for_subtask(source, subtask.class_names)
    assert parts.train.class_names == subtask.class_names
    folders = {
        (label, Path(parts.train.name(row)).parent.name) for row, label in enumerate(parts.train.labels.tolist())
    }
    assert folders == {(0, "n02123045"), (1, "n02012849"), (2, "n02099601")}


def test_folders_of_which_only_some_look_like_synsets_keep_their_names(tmp_path: Path) -> None:
    _write_images(tmp_path, ["n02123045", "dog"], count=1)
    assert open_source(str(tmp_path)).class_names == ("dog", "n02123045")


def test_a_synset_that_is_not_imagenets_keeps_its_id(tmp_path: Path) -> None:
    _write_images(tmp_path, ["n02123045", "n99999999"], count=1)
    assert open_source(str(tmp_path)).class_names == ("tabby, tabby cat", "n99999999")
