"""Classes of several, and the class of all others, from the flag to `validate` on a device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from command import Outcome, embedded_digits, run_command, write_quick_settings
from edgedistill.models.teacher import load_teacher
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.bundle.reference import read_reference


def write_digits(root: Path, folders: dict[str, str], count: int = 40) -> Path:
    """Write images of digits as PNG files: {folder: digit}."""
    source = embedded_digits()
    images, labels = source["images"], source["labels"]
    for folder, digit in folders.items():
        (root / folder).mkdir(parents=True)
        for row in np.flatnonzero(labels == int(digit))[:count]:
            Image.fromarray(images[row]).save(root / folder / f"{row}.png")
    return root


def write_settings(path: Path, data: Path, **more: object) -> Path:
    """Write quick settings whose classes the flags replace."""
    write_quick_settings(path, data, student="plain:4-4", opset=17, epochs=1, **more)
    text = path.read_text(encoding="utf-8").replace(f'"npz:{data}"', json.dumps(str(data)))
    path.write_text(text.replace('["0", "1", "2", "3"]', '["even=0|2|4", "odd=1|3"]'), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits in folders of which two are called like members, and one like its group."""
    folders = {"0": "0", "2": "2", "Even": "4", "1": "1", "3": "3", "5": "5", "holiday": "6"}
    return write_digits(tmp_path_factory.mktemp("digits"), folders)


@pytest.fixture(scope="module")
def built(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    place = tmp_path_factory.mktemp("grouped")
    settings = write_settings(place / "settings.toml", folder)
    outcome = run_command(
        "build", "--config", settings, "--out", place / "out", "--reject", "0.9", "--keep-going", "--json"
    )
    assert outcome.code in (0, 3, 4), outcome.stderr
    return place / "out", outcome


def logits_of_all(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    teacher = load_teacher("embedded:glyphs100")
    with torch.no_grad():
        logits: NDArray[np.float64] = teacher.model(teacher.normalise()(torch.from_numpy(images))).double().numpy()
    return logits


def test_a_build_makes_one_class_of_several(built: tuple[Path, Outcome], folder: Path) -> None:
    out, outcome = built
    subtask = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["subtask"]
    assert subtask["class_names"] == ["even", "odd"]
    assert (subtask["class_members"], subtask["member_names"]) == ([[0, 2, 4], [1, 3]], [["0", "2", "4"], ["1", "3"]])
    assert "note: The class 'even' has the images of 0 (40), 2 (40), Even (40)." in outcome.stderr
    assert "Folders that are no class of the subtask: 5, holiday." in outcome.stderr
    assert "even: 0, 2, 4; odd: 1, 3" in (out / "report.html").read_text(encoding="utf-8")


def test_the_teacher_of_the_bundle_adds_the_probabilities_of_the_members(built: tuple[Path, Outcome]) -> None:
    out, _ = built
    reference = read_reference(open_bundle(out).file("reference"))
    assert reference.images is not None
    images = reference.images
    every = logits_of_all(images)
    expected = np.stack([np.log(np.exp(every[:, each]).sum(1)) for each in ([0, 2, 4], [1, 3])], axis=1)
    np.testing.assert_allclose(reference.logits[reference.image_index], expected, rtol=1e-4, atol=1e-4)
    session = onnxruntime.InferenceSession(str(out / "teacher.fp32.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"image": images})
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-4)


def test_the_reject_score_counts_other_classes_than_the_members(built: tuple[Path, Outcome]) -> None:
    record = json.loads((built[0] / "manifest.json").read_text(encoding="utf-8"))["reject"]
    assert record["validation"]["outside_count"] + record["test"]["outside_count"] == 40, "the fives alone"


def test_validate_finds_the_folders_of_groups_by_all_their_names(built: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, _ = built
    count = len(read_reference(open_bundle(out).file("reference")).labels)
    renamed = write_digits(tmp_path / "renamed", {"EVEN": "0", "2": "2", "4": "4", "odd": "1", "3": "3", "7": "7"})
    checked = run_command("validate", out, "--data", renamed, "--precision", "fp32", "--json")
    record = json.loads(checked.stdout)
    # Of the other images the teacher's file in the bundle says what the teacher answers.
    assert record["sample_count"] - record["answered_count"] == count
    shown = run_command("validate", out, "--data", renamed, "--precision", "fp32", "--allow-class", "Odd")
    assert "class even: 0, 2, 4\n" in shown.stdout
    lacking = run_command("validate", out, "--data", write_digits(tmp_path / "lacking", {"1": "1"}, 2))
    assert lacking.code == 2
    assert "no class 'even' and none of its 3 members (0, 2, 4). Known: 1." in lacking.stderr
    assert run_command("validate", out, "--allow-class", "two", "--precision", "fp32").code == 2


def test_a_run_goes_on_and_refuses_other_members(built: tuple[Path, Outcome], tmp_path: Path) -> None:
    out, _ = built
    again = run_command("build", "--config", out / "settings.toml", "--out", out, "--keep-going")
    assert "distill: done before, kept" in again.stderr
    other = run_command("build", "--config", out / "settings.toml", "--out", out, "--classes", "even=0|2,odd=1|3")
    assert other.code == 2
    assert "subtask.classes was ['even=0|2|4', 'odd=1|3'] and is ['even=0|2', 'odd=1|3']" in other.stderr


def dry_run(data: Path, *more: str | Path) -> tuple[Outcome, dict[str, Any]]:
    outcome = run_command(
        "build", "--teacher", "embedded:glyphs100", "--student", "plain:4-4", "--data", data, "--out", data / "out",
        "--dry-run", "--json", *more,
    )  # fmt: skip
    return outcome, json.loads(outcome.stdout or "{}")


def test_a_dry_run_counts_groups_and_the_rest(folder: Path) -> None:
    outcome, record = dry_run(folder, "--classes", "even=0|2|4,1", "--rest")
    assert outcome.code == 0, outcome.stderr
    assert record["images"] == {"training": {"even": 120, "1": 40, "something else": 80}}
    assert record["settings"]["subtask"]["rest"] is True
    one = dry_run(folder, "--classes", "even=0|2|4", "--rest")[1]
    assert list(one["images"]["training"]) == ["even", "something else"], "one class and all others are two"


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--classes", "even=0|2,odd=2|3"], 2, "The classes 'even' and 'odd' share 2"),
        (["--classes", "even=,odd=1"], 2, "The group 'even' has no members"),
        (["--classes", "even=0|ten,odd=1"], 2, "In the group 'even': The teacher has no class 'ten'"),
        (["--classes", "low=0|1,high=7|8"], 1, "no class 'high' and none of its 2 members (7, 8)"),
        (["--classes", "0,1", "--rest", "--reject", "0.9"], 2, "--rest and --reject 0.9 were both given"),
        (["--classes", "0,2,1,3,5,even=4", "--rest"], 1, "other classes of the teacher, of which there are 94, and"),
        (["--classes", "0,something else=1", "--rest"], 2, "Two classes are called 'something else'"),
    ],
)
def test_what_cannot_run_is_told_before_torch_is_loaded(
    folder: Path, flags: list[str], code: int, message: str
) -> None:
    outcome, record = dry_run(folder, *flags)
    assert (outcome.code, message in outcome.stderr) == (code, True), outcome.stderr
    assert any(message in each for each in record.get("problems", [message]))


def test_a_teacher_without_other_classes_has_no_rest(folder: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("0\n1\n2\n", encoding="utf-8")
    outcome = run_command(
        "build", "--teacher", "torchvision:resnet18", "--teacher-classes", labels, "--data", folder, "--student",
        "plain:4-4", "--classes", "0,1,2", "--rest", "--out", tmp_path / "out", "--dry-run",
    )  # fmt: skip
    assert outcome.code == 1
    assert "The teacher has no classes beside those of the subtask" in outcome.stderr


def test_the_rest_is_one_more_class_to_the_end(folder: Path, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "settings.toml", folder, lambda_layer=0.0)
    out = tmp_path / "out"
    outcome = run_command(
        "build", "--config", settings, "--classes", "0,odd=1|3", "--rest", "--out", out, "--keep-going",
        "--allow-class", "something else",
    )  # fmt: skip
    assert outcome.code in (0, 3, 4), outcome.stderr
    assert "note: The class 'something else' has the images of 2 (40), 5 (40)." in outcome.stderr
    subtask = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["subtask"]
    assert subtask["class_names"] == ["0", "odd", "something else"]
    assert subtask["class_members"] == [[0], [1, 3], [2, 5]]
    reference = read_reference(open_bundle(out).file("reference"))
    assert reference.images is not None
    every = logits_of_all(reference.images)
    rest = np.log(np.exp(every[:, [2, 5]]).sum(1))
    np.testing.assert_allclose(reference.logits[reference.image_index][:, 2], rest, rtol=1e-4, atol=1e-4)
    checked = json.loads(run_command("validate", out, "--data", folder, "--precision", "fp32", "--json").stdout)
    assert checked["sample_count"] - checked["answered_count"] == len(reference.labels)
    refused = run_command("export", out, "--reject", "0.9")
    assert (refused.code, "--rest and --reject 0.9 were both given" in refused.stderr) == (2, True)


def test_compare_takes_groups_and_the_rest(folder: Path, tmp_path: Path) -> None:
    outcome = run_command(
        "compare", "--teacher", "embedded:glyphs100", "--student", "plain:4-4", "--data", folder, "--classes",
        "even=0|2,1", "--rest", "--methods", "logits", "--seeds", "1", "--epochs", "1", "--compute", "cpu", "--out",
        tmp_path / "out", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    (task,) = json.loads(outcome.stdout)["tasks"]
    assert task["teacher_accuracy"] > 0.8
    assert task["classes"] == [
        {"name": "even", "members": ["0", "2"]},
        "1",
        {"name": "something else", "members": ["3", "5"]},
    ]


def test_settings_without_the_rest_are_the_settings_they_were(tmp_path: Path) -> None:
    file = write_settings(tmp_path / "settings.toml", tmp_path)
    before = read_settings(file, {})
    assert "rest" not in before.to_tables()["subtask"]
    explicit = tmp_path / "explicit.toml"
    explicit.write_text(
        write_settings(file, tmp_path).read_text("utf-8").replace("[subtask]", "[subtask]\nrest = false"), "utf-8"
    )
    assert read_settings(explicit, {}).key("subtask") == before.key("subtask")
    asked = read_settings(explicit, {"subtask.rest": True, "subtask.classes": ["a", "b"]}).subtask
    assert (asked.classes, asked.rest) == (("a", "b"), True)
    explicit.write_text(explicit.read_text("utf-8").replace("rest = false", "rest = true"), "utf-8")
    assert read_settings(explicit, {"subtask.name": "imagenet/bird"}).subtask.rest, "names do not replace it"
    assert not read_settings(explicit, {"subtask.rest": False}).subtask.rest
