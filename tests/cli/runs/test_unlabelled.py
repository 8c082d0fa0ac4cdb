"""Photographs without labels, alone and beside labelled ones, from the command line to the verdict."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command import QUICK_CALIBRATION, Outcome, embedded_digits, run_command
from edgedistill_cli.runs.folder import _from_anywhere
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.bundle.reference import read_reference

SETTINGS = f"""
[teacher]
name = "embedded:glyphs100"
[subtask]
classes = ["0", "1", "2"]
[student]
name = "plain:8-8"
[distill]
epochs = 1
batch_size = 32
augment = "none"
compute = "cpu"
[export]
opset = 17
[calibrate]
images = 30
{QUICK_CALIBRATION}
[profile]
warmup_s = 0.02
duration_s = 0.05
min_runs = 5
"""


def write_digits(folder: Path, split: int, count: int, *, sorted_by_class: bool, skip: int = 0) -> Path:
    """Write some digits of the embedded set as files, in class folders or all in one folder."""
    source = embedded_digits()
    images, labels, splits = source["images"], source["labels"], source["split"]
    names = source["class_names"].tolist()
    for name in "012":
        rows = np.flatnonzero((labels == names.index(name)) & (splits == split))[skip : skip + count]
        place = folder / name if sorted_by_class else folder
        place.mkdir(parents=True, exist_ok=True)
        for row in rows:
            Image.fromarray(images[row]).save(place / f"{row}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unlabelled")
    write_digits(folder / "loose", 0, 40, sorted_by_class=False)
    write_digits(folder / "sorted", 0, 15, sorted_by_class=True, skip=100)
    write_digits(folder / "more" / "2021" / "summer", 0, 20, sorted_by_class=False, skip=200)
    write_digits(folder / "half" / "train", 0, 25, sorted_by_class=False)
    write_digits(folder / "half" / "test", 2, 10, sorted_by_class=True)
    (folder / "empty").mkdir()
    (folder / "settings.toml").write_text(SETTINGS, encoding="utf-8")
    return folder


def run(command: str, data: Path, *argv: str | Path) -> Outcome:
    return run_command(command, "--config", data / "settings.toml", *argv)


@pytest.fixture(scope="module")
def loose_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    out = tmp_path_factory.mktemp("loose") / "run"
    return out, run("build", data, "--data", data / "loose", "--out", out, "--json")


def test_a_folder_of_loose_images_is_built_and_judged_by_agreement(loose_run: tuple[Path, Outcome]) -> None:
    out, outcome = loose_run
    assert outcome.code == 3, outcome.stderr  # a student of one epoch agrees too rarely
    record = json.loads(outcome.stdout)
    assert (record["verdict"], record["student"]["accuracy"]) == ("fail", None)
    assert record["distillation"]["judged_by"] == "teacher"
    assert "training (all without a label)" in outcome.stderr
    assert "teacher: not checked, because no image has a label" in outcome.stderr
    assert "images without a label the teacher sees: " in outcome.stderr
    assert "distill: agreement with the teacher " in outcome.stderr
    assert (
        "No validation or test image has a label: the best epoch is chosen and the verdict is given by the agreement "
        "with the teacher."
    ) in outcome.stderr
    assert any("the teacher sees" in note for note in record["distillation"]["notes"])
    assert record["student"]["agreement"] < 0.95
    assert (
        "note: 24 images without labels judge the expert, and even if all are answered as by the teacher, it takes 73"
        in (outcome.stderr)
    )
    assert (read_reference(open_bundle(out).file("reference")).labels == -1).all()
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "Agreement with the teacher on validation images, which have no labels" in report
    assert "its images are those that the teacher answers with it" in " ".join(report.split())


def test_the_limit_without_labels_is_the_agreement(loose_run: tuple[Path, Outcome]) -> None:
    out, _ = loose_run
    shown = run_command("validate", out, "--precision", "fp32")
    assert shown.code == 3
    assert "No label is known, so only the agreement with the teacher is judged." in shown.stdout
    assert "least agreement of 95.00 %" in shown.stdout
    passed = run_command("validate", out, "--precision", "fp32", "--min-agreement", "0.01", "--json")
    record = json.loads(passed.stdout)
    assert record["accuracy"]["candidate"] is None
    # A student that never answers with a class that the teacher sees stays bad at any limit.
    assert passed.code == (3 if any(each["verdict"] == "fail" for each in record["class_findings"] or ()) else 0)


def test_own_images_without_labels_are_found_by_their_content(data: Path, loose_run: tuple[Path, Outcome]) -> None:
    outcome = run_command("validate", loose_run[0], "--data", data / "loose", "--precision", "fp32", "--json")
    record = json.loads(outcome.stdout)
    assert (record["sample_count"], record["answered_count"], record["unknown_count"]) == (120, 120 - 24, 0)


def test_the_ledger_counts_agreement_with_the_teacher(loose_run: tuple[Path, Outcome]) -> None:
    steps = {each["stage"]: each for each in json.loads((loose_run[0] / "ledger.json").read_text())["steps"]}
    assert steps["teacher"]["accuracy"] == 1.0
    for step in steps.values():
        assert step["accuracy"] == step["teacher_agreement"]


def test_a_run_without_labels_is_kept_and_started_over_only_when_its_images_change(
    data: Path, loose_run: tuple[Path, Outcome], tmp_path: Path
) -> None:
    out = shutil.copytree(loose_run[0], tmp_path / "run")
    again = run("build", data, "--data", data / "loose", "--out", out)
    assert "distill: done before, kept" in again.stderr
    other = run("build", data, "--data", data / "loose", "--unlabelled", data / "more", "--out", out)
    assert other.code == 2
    assert "data.unlabelled was None and is" in other.stderr


def test_unlabelled_images_train_beside_labelled_ones(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = run("distill", data, "--data", data / "sorted", "--unlabelled", data / "more", "--out", out)
    assert outcome.code == 0, outcome.stderr
    assert "3 classes; 90 training (60 without a label), 6 validation, 9 test images" in outcome.stderr
    assert "teacher: the teacher is right on" in outcome.stderr
    assert "of 60 images without a label the teacher sees: " in outcome.stderr
    assert "distill: validation accuracy " in outcome.stderr
    assert f'unlabelled = "{data / "more"}"' in (out / "settings.toml").read_text(encoding="utf-8")
    exported = run_command("export", out)
    assert exported.code == 0, exported.stderr
    assert set(read_reference(open_bundle(out).file("reference")).labels.tolist()) == {0, 1, 2}
    calibrated = run_command("calibrate", out)
    assert calibrated.code == 0, calibrated.stderr
    assert open_bundle(out).manifest["calibration"]["per_class"] == {"0": 7, "1": 7, "2": 8, "(no label)": 8}


def test_a_labelled_test_folder_is_enough_for_accuracy(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = run("distill", data, "--data", data / "half", "--out", out, "--json")
    assert outcome.code == 0, outcome.stderr
    assert "60 training (all without a label), 15 validation (all without a label), 30 test images" in outcome.stderr
    assert (
        "No validation image has a label: the best epoch is chosen by the agreement with the teacher." in outcome.stderr
    )
    assert "of 30 test images (interval" in outcome.stderr, "the teacher is checked on images that have labels"
    assert json.loads(outcome.stdout)["distillation"]["judged_by"] == "teacher"
    exported = run_command("export", out)
    assert exported.code == 0, exported.stderr
    judged = json.loads(run_command("validate", out, "--precision", "fp32", "--json").stdout)
    assert judged["accuracy"]["teacher"] > 0.8


def test_unlabelled_images_alone_need_no_data(data: Path) -> None:
    outcome = run("build", data, "--unlabelled", data / "more", "--dry-run", "--json")
    assert outcome.code == 0, outcome.stderr
    plan = json.loads(outcome.stdout)
    assert (plan["images"], plan["unlabelled"], plan["problems"]) == ({}, {"training": 60}, [])
    settings = read_settings(data / "settings.toml", {"data.unlabelled": "more"})
    assert _from_anywhere(settings).data.source == "", "no source is not the working directory"


def test_the_plan_counts_images_without_labels(data: Path) -> None:
    outcome = run("build", data, "--data", data / "sorted", "--unlabelled", data / "more", "--dry-run")
    assert outcome.code == 0, outcome.stderr
    assert "(no label)" in outcome.stdout
    mixed = json.loads(
        run("build", data, "--data", data / "sorted", "--unlabelled", data / "more", "--dry-run", "--json").stdout
    )
    assert mixed["images"] == {"training": {"0": 15, "1": 15, "2": 15}}
    assert mixed["unlabelled"] == {"training": 60}


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--data", "sorted", "--unlabelled", "nowhere"], 2, "There are no images at nowhere: it does not exist."),
        (["--data", "sorted", "--unlabelled", "empty"], 1, "empty and its folders hold no images"),
        (["--data", "sorted", "--unlabelled", "sorted/1"], 2, "holds images that --data reads too, such as those in"),
        (["--data", "more"], 1, "can be trained on without labels: --unlabelled FOLDER."),
        ([], 2, "data.source is missing; give it with --data or in a settings file."),
    ],
)
def test_wrong_images_are_one_sentence_before_anything_is_loaded(
    data: Path, argv: list[str], code: int, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(data)
    outcome = run("build", data, *argv, "--out", tmp_path / "run")
    assert outcome.code == code
    assert message in " ".join(outcome.stderr.split())
    assert not (tmp_path / "run").exists()


def test_settings_that_need_labels_are_refused_without_any(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS.replace("epochs = 1", "epochs = 1\nlambda_task = 0.5"), encoding="utf-8")
    outcome = run_command("build", "--config", settings, "--data", data / "loose", "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "lambda_task = 0.5 is the weight of the labels, and no training image has a label." in outcome.stderr


def test_a_comparison_without_labels_leaves_out_the_method_that_needs_them(data: Path, tmp_path: Path) -> None:
    everything = run("compare", data, "--data", data / "loose", "--dry-run", "--out", tmp_path / "all", "--json")
    assert everything.code == 0, everything.stderr
    assert "note: the method 'labels' is left out, because no training image has a label" in everything.stderr
    named = run("compare", data, "--data", data / "loose", "--methods", "labels,logits", "--out", tmp_path / "named")
    assert named.code == 2
    assert "'labels' of the methods to compare learns from labels" in named.stderr
    compared = run("compare", data, "--data", data / "loose", "--methods", "logits", "--seeds", "1", "--out",
                   tmp_path / "compared", "--json")  # fmt: skip
    assert compared.code == 0, compared.stderr
    record = json.loads(compared.stdout)
    assert (record["tasks"][0]["judged_by"], record["teacher_accuracy"]) == ("teacher", 1.0)


def test_an_inspection_without_labels_says_what_counts_as_right(data: Path) -> None:
    outcome = run("inspect", data, "--data", data / "loose", "--layers", "layer3", "--ks", "4", "--methods", "prca")
    assert outcome.code == 0, outcome.stderr
    assert "its own answers to 19 validation images, which have no labels, count as right" in outcome.stdout
