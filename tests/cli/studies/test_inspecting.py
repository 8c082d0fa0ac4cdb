import importlib.util
import json
from pathlib import Path

import pytest

from command import Outcome, run_command, write_quick_settings

TEACHER = ("--teacher", "embedded:glyphs100")
FEW = ("--images", "60", "--training-images", "32", "--compute", "cpu")


def inspect_digits(data: Path, *flags: str | Path) -> Outcome:
    return run_command("inspect", "--data", f"npz:{data}", *TEACHER, "--classes", "0,1,2,3", *FEW, *flags)


def test_a_person_sees_accuracies_widths_and_a_student(tiny_digits: Path, tmp_path: Path) -> None:
    outcome = inspect_digits(
        tiny_digits, "--layers", "layer3,layer4", "--methods", "prca,random", "--out", tmp_path / "out"
    )
    assert outcome.code == 0, outcome.stderr
    assert "of 60 validation images; subspaces from 32 training images" in outcome.stdout
    assert "layer4: 256 channels, 2x2" in outcome.stdout
    assert "Widths that keep 99 % of the teacher's accuracy" in outcome.stdout
    record = json.loads((tmp_path / "out" / "inspection.json").read_text(encoding="utf-8"))
    assert f"suggested: --student {record['suggestion']['student']}" in outcome.stdout
    assert f"all at once leave the teacher {100 * record['suggestion']['together_accuracy']:.1f} %" in outcome.stdout
    assert (tmp_path / "out" / "inspection.svg").stat().st_size > 5000
    # More relevant directions do better than as many random ones.
    at = {
        method: {point["k"]: point["accuracy"] for point in points}
        for method, points in record["layers"][0]["accuracy_at_k"].items()
    }
    assert at["prca"][8] > at["random"][8] + 0.3


def test_json_is_one_document_and_nothing_is_written(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = inspect_digits(
        tiny_digits, "--student", "timm:resnet10t", "--student-width", "0.125", "--methods", "pca", "--ks",
        "4,256", "--json", "--quiet",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr == ""
    record = json.loads(outcome.stdout)
    assert (record["kind"], record["schema"], record["validation_count"]) == ("inspection", 1, 60)
    assert [layer["layer"] for layer in record["layers"]] == ["layer1", "layer2", "layer3", "layer4"]
    assert [point["k"] for point in record["layers"][0]["accuracy_at_k"]["pca"]] == [4, 32]
    assert record["suggestion"]["given"]["widths"] == {
        "layer1": 8, "layer2": 16, "layer3": 32, "layer4": 64
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_run_gives_its_settings_and_takes_the_files(tmp_path: Path, tiny_digits: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    settings = write_quick_settings(run / "settings.toml", tiny_digits, seed=7)
    before = settings.read_bytes()
    flags = ("--methods", "pca", "--ks", "1", "--layers", "layer4", *FEW)
    outcome = run_command("inspect", run, *flags)
    assert outcome.code == 0, outcome.stderr
    record = json.loads((run / "inspect" / "inspection.json").read_text(encoding="utf-8"))
    assert (record["teacher"], record["class_names"], record["seed"]) == (
        "embedded:glyphs100", ["0", "1", "2", "3"], 7,
    )  # fmt: skip
    assert record["suggestion"]["given"]["name"] == "timm:resnet10t"
    assert "no student suggested: pca misses the target at every K given, at layer4" in outcome.stdout
    assert settings.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--layers", "layer9"), "has no layer 'layer9'. Did you mean layer"),
        (("--methods", "prca,pcb"), "method cannot be 'pcb'. Did you mean pca"),
        (("--ks", "1,x"), "--ks takes whole numbers such as 1,2,4,8, and '1,x' was given"),
        (("--ks", "0"), "k must be a number of at least 1"),
        (("--ks", "2,300"), "k = 300 is more directions than any inspected layer has"),
        (("--target", "0"), "target is the part of the teacher's accuracy to keep"),
        (("--student", "timm:resnet10x"), "resnet10x"),
    ],
)
def test_wrong_usage_is_a_sentence(tiny_digits: Path, flags: tuple[str, str], message: str) -> None:
    outcome = inspect_digits(tiny_digits, *flags)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert outcome.stdout == ""


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    outcome = run_command("inspect", tmp_path)
    assert outcome.code == 2
    assert f"{tmp_path} is not a run folder (it has no settings.toml)" in outcome.stderr


def test_a_run_and_a_settings_file_are_one_too_many(tmp_path: Path, tiny_digits: Path) -> None:
    settings = write_quick_settings(tmp_path / "settings.toml", tiny_digits)
    outcome = run_command("inspect", tmp_path, "--config", settings)
    assert outcome.code == 2
    assert "Both a run folder and --config were given" in outcome.stderr


def test_what_is_missing_is_named_and_the_student_is_not() -> None:
    outcome = run_command("inspect", "--classes", "0,1")
    assert outcome.code == 2
    assert "data.source is missing" in outcome.stderr
    assert "teacher.name is missing" in outcome.stderr
    assert "student" not in outcome.stderr


def test_a_missing_matplotlib_is_found_before_the_work(
    tiny_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    outcome = inspect_digits(tiny_digits, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "needs matplotlib, which is not installed: pip install 'edgedistill[compare]'." in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_too_few_images_are_said_in_place_of_a_width(tiny_digits: Path) -> None:
    outcome = inspect_digits(tiny_digits, "--layers", "layer4", "--methods", "pca", "--ks", "1,64", "--images", "12")
    assert outcome.code == 0, outcome.stderr
    assert "no width suggested: 12 validation images are too few" in outcome.stdout
    assert "--student" not in outcome.stdout


def test_a_shrunk_teacher_is_inspected_beside_its_teacher(tiny_digits: Path) -> None:
    outcome = inspect_digits(tiny_digits, "--student", "teacher:0.5", "--methods", "pca", "--ks", "4,256", "--json")
    assert outcome.code == 0, outcome.stderr
    given = json.loads(outcome.stdout)["suggestion"]["given"]
    assert given["name"] == "teacher:0.5"
    # What blocks hand on to each other keeps its width.
    assert given["widths"] == {"layer1": 32, "layer2": 64, "layer3": 128, "layer4": 256}
