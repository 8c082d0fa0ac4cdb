"""A teacher's labels without its weights are those with them."""

import json
from pathlib import Path

import pytest

from edgedistill.models.teacher import load_teacher
from edgedistill.models.teacher_files import read_labels, teacher_labels
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.errors import DataError, UsageError


def write_config(folder: Path, **config: object) -> str:
    """Write a folder of which only the record of the model is read."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"")
    return str(folder)


def test_the_embedded_teacher_has_the_labels_it_is_loaded_with() -> None:
    assert teacher_labels("embedded:glyphs100") == load_teacher("embedded:glyphs100").class_names


def test_a_thousand_outputs_without_labels_are_imagenets(tmp_path: Path) -> None:
    folder = write_config(tmp_path / "a", architecture="resnet50", pretrained_cfg={"num_classes": 1000})
    assert teacher_labels(folder) == imagenet_labels()


def test_synset_ids_as_labels_become_words(tmp_path: Path) -> None:
    few = list(labels_of_synsets())[:2]
    folder = write_config(tmp_path / "a", architecture="x", num_classes=2, label_names=few, pretrained_cfg={})
    assert teacher_labels(folder) == ("tench, Tinca tinca", "goldfish, Carassius auratus")


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"num_classes": 7, "pretrained_cfg": {}}, UsageError, "carries no labels for its 7 outputs"),
        ({"pretrained_cfg": {}}, DataError, "not the JSON that timm's save_for_hf writes"),
        ({"num_classes": "many"}, DataError, "not the JSON that timm's save_for_hf writes"),
    ],
)
def test_a_record_without_labels_is_a_sentence(
    tmp_path: Path, config: dict[str, object], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        teacher_labels(write_config(tmp_path / "a", **config))


def test_a_class_file_wins_and_needs_no_teacher(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("a\nb\n", encoding="utf-8")
    assert teacher_labels("timm:unknown", tmp_path / "labels.txt") == ("a", "b")


def test_torchvisions_weights_tell_their_labels() -> None:
    assert teacher_labels("torchvision:resnet50:IMAGENET1K_V1")[:2] == ("tench", "goldfish")


def test_a_folder_of_transformers_tells_its_labels_without_the_library(tmp_path: Path) -> None:
    names = {str(place): name for place, name in enumerate("abcdefghijkl")}
    folder = write_config(tmp_path / "a", model_type="vit", architectures=["ViTForImageClassification"], id2label=names)
    assert teacher_labels(folder) == tuple("abcdefghijkl")
    assert teacher_labels(f"transformers:{folder}") == tuple("abcdefghijkl")


@pytest.mark.parametrize("name", ["python:json:loads", "transformers:owner/name", "timm:hf-hub:owner/name"])
def test_labels_that_only_loading_shows_are_asked_for(name: str) -> None:
    with pytest.raises(UsageError, match=r"known only once it is loaded; give them with --teacher-classes FILE"):
        teacher_labels(name)


@pytest.mark.parametrize(
    "text",
    [
        '["cat", "dog", "0"]',
        '{"1": "dog", "0": "cat", "2": "0"}',
        '{"dog": 1, "cat": 0, "0": 2}',
        '[["n1", "cat"], ["n2", "dog"], ["n3", "0"]]',
        "cat\r\ndog\r\n\r\n0",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_class_files_are_read_as_people_write_them(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "labels.txt").write_bytes(text.encode(encoding))
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog", "0")


def test_synset_ids_in_json_become_words(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}')
    assert read_labels(tmp_path / "index.json") == ("tench, Tinca tinca", "goldfish, Carassius auratus")


@pytest.mark.parametrize(
    "text", ['{"0": "a", "2": "b"}', '{"a": 0, "b": 0}', '{"a": true}', "[1]", '{"9' + "9" * 5000 + '": "a"}', "3"]
)
def test_json_that_names_no_labels_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(UsageError, match=r"labels\.json holds neither a list of labels nor a label for each of"):
        read_labels(tmp_path / "labels.json")


def test_broken_json_is_refused_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"0": "cat",\n 1: "dog"}')
    with pytest.raises(UsageError, match=r"labels\.json is not valid JSON: .*line 2"):
        read_labels(tmp_path / "labels.json")
