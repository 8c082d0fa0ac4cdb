"""Classes by their everyday names, from the flag through the folders to `validate` on a device."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from command import QUICK_CALIBRATION, Outcome, run_command
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.classes.imagenet import labels_of_synsets, words_of_class

# What timm's descriptions give as labels: two classes are called "crane".
SHORT_LABELS = [", ".join(words_of_class(synset)) for synset in labels_of_synsets()]


def write_teacher(folder: Path, labels: Sequence[str] = SHORT_LABELS) -> Path:
    """Write an untrained teacher of ImageNet's thousand classes, for small images, in timm's layout."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=len(labels), channels=(8, 8, 16, 16), stem_width=8)
    shown = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    config = {"label_names": list(labels), "pretrained_cfg": shown}
    save_for_hf(model, str(folder), model_config=config, data_config=shown, safe_serialization=True)
    return folder


def write_images(root: Path, names: Sequence[str], count: int = 10) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("thousand") / "teacher")


def run_on(teacher: Path, data: Path, command: str, *more: str | Path) -> Outcome:
    return run_command(
        command, "--teacher", teacher, "--data", data, "--student", "plain:4-4", "--epochs", "1", "--compute", "cpu",
        "--lambda-layer", "0", *more,
    )  # fmt: skip


def test_a_build_finds_readings_synonyms_and_ids_and_so_does_validate(teacher: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", ["Crane", "hippopotamus", "golden_retriever", "tiger-cat"])
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f"[export]\nopset = 17\n[calibrate]\nimages = 20\n{QUICK_CALIBRATION}[profile]\nwarmup_s = 0.0\n"
        "duration_s = 0.05\n"
    )
    out = tmp_path / "out"
    classes = ("--classes", "crane (bird),hippo,n02099601")
    outcome = run_on(teacher, data, "build", *classes, "--config", settings, "--out", out)
    assert outcome.code in (0, 3, 4), outcome.stderr
    subtask = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["subtask"]
    assert subtask["class_indices"] == [134, 344, 207]
    assert subtask["class_names"] == ["crane (bird)", "hippo", "golden retriever"]
    renamed = {"Crane": "n02012849", "hippopotamus": "river horse", "golden_retriever": "Golden-Retriever"}
    for old, new in renamed.items():
        (data / old).rename(data / new)
    checked = json.loads(run_command("validate", out, "--data", data, "--precision", "fp32", "--json").stdout)
    found = checked["sample_count"] - checked["answered_count"]
    assert found == 6, "the test images, found under the other names"
    lacking = write_images(tmp_path / "lacking", ["n02012849", "tench", "retrievers"])
    refused = run_command("validate", out, "--data", lacking, "--precision", "fp32")
    assert refused.code == 2
    assert "no class 'hippo'. Known: crane, retrievers, tench." in refused.stderr
    assert "no class 'golden retriever'. Did you mean retrievers?" in refused.stderr


def test_a_noun_names_a_subtask_and_synsets_name_its_folders(teacher: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", ["n02119022", "kit fox", "White_Fox", "n02120505"])
    outcome = run_on(teacher, data, "distill", "--subtask", "imagenet/fox", "--out", tmp_path / "out")
    assert "4 classes;" in outcome.stderr
    # The teacher is not trained, and only that stops the run.
    assert "note: the teacher is right on 25.0 % of 8 validation images" in outcome.stderr


def test_every_wrong_name_is_told_at_once(teacher: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", ["tabby", "zebra"], count=2)
    outcome = run_on(teacher, data, "build", "--classes", "cat,crane,zebra,dgo", "--out", tmp_path / "out")
    assert outcome.code == 2
    assert "4 things must change before this can run:" in outcome.stderr
    assert "'zebra' has 2" in outcome.stderr
    assert "imagenet/domestic-cat" in outcome.stderr
    assert "crane (bird), n02012849; crane (device), n03126707" in outcome.stderr
    assert "'dgo'. Did you mean" in outcome.stderr
    missing = run_on(teacher, data, "build", "--classes", "tabby,zebra,hippo,tench", "--out", tmp_path / "out")
    assert missing.code == 2
    assert "'tabby' has 2, 'zebra' has 2" in missing.stderr
    assert "The training images have no class 'hippo', 'tench'. Known: tabby, zebra." in missing.stderr


def test_a_flag_replaces_both_ways_to_name_a_subtask_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    rest = '[data]\nsource = "x"\n[teacher]\nname = "timm:resnet50"\n[student]\nname = "plain:4-4"\n'
    file.write_text(f'{rest}[subtask]\nclasses = ["tabby", "tench"]\nname = "pets"\n', encoding="utf-8")
    named = read_settings(file, {"subtask.name": "imagenet/bird"}).subtask
    assert (named.classes, named.name) == ((), "imagenet/bird")
    listed = read_settings(file, {"subtask.classes": ["zebra", "tench"]}).subtask
    assert (listed.classes, listed.name) == (("zebra", "tench"), "")
    kept = read_settings(file, {"teacher.name": "timm:resnet18"}).subtask
    assert (kept.classes, kept.name) == (("tabby", "tench"), "pets")
