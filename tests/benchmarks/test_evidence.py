"""The evidence script on other people's data: a tiny data set in CIFAR-100's own file format."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf

from benchmarks.evidence import __main__ as evidence
from benchmarks.evidence.parts import Places, parts
from benchmarks.evidence.results import reasons_table
from benchmarks.evidence.settings import given_settings
from benchmarks.evidence.tasks import FASHION_TEACHER, IMAGENET, fashion_tasks, glyph_tasks, named_tasks
from edgedistill import load_teacher
from edgedistill.subtasks.imagenet import imagenet_labels
from edgedistill.subtasks.named import named_subtask_classes, named_subtasks
from edgedistill_deploy.classes.imagenet import labels_of_synsets
from edgedistill_deploy.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
FLOWERS = named_subtask_classes("cifar100/flowers")


def write_cifar(folder: Path) -> tuple[str, ...]:
    """Write 8 training and 4 test images of each flower, and the names of all hundred classes."""
    names = tuple(
        sorted(name for each in named_subtasks() if each.name.startswith("cifar100/") for name in each.classes)
    )
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "coarse_label_names.txt").write_text("\n".join(f"group {i}" for i in range(20)), encoding="utf-8")
    generator = np.random.default_rng(0)
    for file, count in (("train.bin", 8), ("test.bin", 4)):
        rows = [
            bytes([0, names.index(flower)]) + generator.integers(0, 256, 3072, dtype=np.uint8).tobytes()
            for flower in FLOWERS
            for _ in range(count)
        ]
        (folder / file).write_bytes(b"".join(rows))
    return names


def write_teacher(folder: Path, names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=len(names), channels=(8, 8, 16, 16), stem_width=8)
    shown = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 1.0}
    save_for_hf(
        model,
        str(folder),
        model_config={"label_names": list(names), "pretrained_cfg": shown},
        data_config=shown,
        safe_serialization=True,
    )


def run_script(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.evidence", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


def own_record(folder: Path, data: str, subtask: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compare two methods for an epoch on somebody's own data, with the teacher in `folder`; return what is
    recorded."""
    words = (
        "--data", data, "--teacher", str(folder / "teacher"), "--subtasks", subtask, "--methods", "subdistill,logits",
        "--student", "plain:4-4", "--epochs", "1", "--seeds", "1", "--lambdas", "1", "--compute", "cpu",
        "--out", str(folder / "out"),
    )  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["evidence", *words])
    assert evidence.main() == 0
    return json.loads((folder / "out" / "own" / "comparison.json").read_text(encoding="utf-8"))


def test_the_papers_superclasses_run_on_cifars_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_teacher(tmp_path / "teacher", write_cifar(tmp_path / "cifar"))
    record = own_record(tmp_path, f"cifar100:{tmp_path / 'cifar'}", "cifar100/flowers", monkeypatch)
    assert record["tasks"][0]["images"]["test"] == 4 * len(FLOWERS)
    assert [len(row["runs"]) for row in record["rows"]] == [1, 1]
    assert str(tmp_path) not in json.dumps(record)


def test_the_papers_subtasks_run_on_a_folder_in_imagenets_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train/` and `val/` with a folder for each synset, JPEG files in them, and no test split."""
    described = labels_of_synsets()
    write_teacher(tmp_path / "teacher", imagenet_labels())
    wanted = named_subtask_classes("imagenet/truck")
    generator = np.random.default_rng(0)
    synsets = [synset for synset, label in described.items() if label in wanted]
    assert len(synsets) == len(wanted)
    for split, count in (("train", 10), ("val", 4)):
        for synset in (*synsets, "n01440764"):
            folder = tmp_path / "imagenet" / split / synset
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{synset}_{number}.JPEG")
    record = own_record(tmp_path, str(tmp_path / "imagenet"), "imagenet/truck", monkeypatch)
    images = record["tasks"][0]["images"]
    assert images["test"] == 4 * len(wanted)
    assert (images["train"], images["validation"]) == (8 * len(wanted), 2 * len(wanted))


def test_a_wrong_name_is_a_sentence(tmp_path: Path) -> None:
    done = run_script("--data", f"cifar100:{tmp_path / 'nowhere'}", "--teacher", "x")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "nowhere" in done.stderr


def test_the_papers_superclasses_are_all_there() -> None:
    names = tuple(f"imagenet/{name}" for name in IMAGENET)
    tasks = named_tasks("photos", "timm:resnet50", names, "timm:resnet18", {"epochs": 100})
    assert [task.name for task in tasks] == list(names)
    assert all(len(task.classes) >= 5 for task in tasks)
    assert sum(each.name.startswith("cifar100/") for each in named_subtasks()) == 20


@pytest.mark.parametrize("make", [glyph_tasks, fashion_tasks])
def test_every_rival_trains_under_the_same_settings(make: object) -> None:
    tasks = make("npz:images.npz", "teacher")  # type: ignore[operator]
    assert len({json.dumps(task.settings, sort_keys=True) for task in tasks}) == 1
    assert not {"layer_loss", "method", "lambda_layer"} & set(tasks[0].settings)


def test_settings_are_read_as_python_writes_them_and_else_as_text() -> None:
    words = ["lambda_layer=1.", "epochs=5", "augment=crop", "channels_last=True"]
    assert given_settings(words) == {"lambda_layer": 1.0, "epochs": 5, "augment": "crop", "channels_last": True}
    with pytest.raises(UsageError, match="A setting is written key=value, and 'epochs' was given"):
        given_settings(["epochs"])


def test_the_teacher_in_the_checkout_is_the_one_described() -> None:
    teacher = load_teacher(FASHION_TEACHER)
    assert len(teacher.class_names) == 10
    assert sum(each.numel() for each in teacher.model.parameters()) == 1_228_970


def test_the_part_on_reasons_explains_four_tasks_with_one_weight() -> None:
    places = Places(
        glyphs="npz:glyphs.npz",
        glyphs_teacher="embedded:glyphs100",
        fashion="fashion-mnist",
        fashion_teacher=FASHION_TEACHER,
        printed="",
        printed_digits="",
        printed_teacher="",
    )
    plan = parts(places)["reasons"]()
    assert [task.name for task in plan.tasks] == ["footwear", "tops", "lower-f", "lower-n"]
    assert list(plan.methods) == [
        *("subdistill", "labels", "logits", "attention-transfer", "vid", "subdistill-pca", "subdistill-random")
    ]
    assert (plan.lambdas, len(plan.seeds)) == ((1.0,), 3)
    assert plan.explain is not None


def test_reasons_stand_in_a_table_beside_accuracy_and_floors() -> None:
    def row(task: str | None, method: str, cosine: float, difference: Any) -> dict[str, Any]:
        reasons = {"cosine": {"mean": cosine, "deviation": 0.05, "difference": difference}}
        return {"task": task, "method": method, "mean": 0.9, "reasons": reasons}

    ahead = {"mean": 0.2, "interval": [0.1, 0.3], "verdict": "ahead", "reason": ""}
    floor = {"random_student": {"cosine": {"mean": 0.01, "deviation": None}}, "other_class": {"cosine": -0.5}}
    record = {
        "reference": "subdistill",
        "over_tasks": True,
        "methods": {"subdistill": {}, "labels": {}, "as-is": {}},
        "tasks": [{"name": "tops", "reasons": floor}, {"name": "lower-f", "reasons": {**floor, "other_class": None}}],
        "rows": [
            row("tops", "subdistill", 0.6, None),
            row("tops", "labels", 0.4, ahead),
            row("lower-f", "subdistill", 0.8, None),
            row(None, "subdistill", 0.7, None),
            row(None, "labels", 0.5, ahead),
        ],
    }
    lines = reasons_table(record)
    assert lines[2:] == [
        "| subdistill | 0.60 ± 0.05 | 0.80 ± 0.05 | 0.70 ± 0.05 | 90.0 |  |  |",
        "| labels | 0.40 ± 0.05 | – | 0.50 ± 0.05 | 90.0 | +0.20 [+0.10, +0.30] | ahead |",
        "| *students of random weights* | 0.01 | 0.01 |  |  |  |  |",
        "| *the teacher for another class* | -0.50 | – |  |  |  |  |",
    ]
    assert len({line.count("|") for line in lines}) == 1
