"""Several teachers and an assistant from the command line: what is asked for, told, kept and refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from command import EMBEDDED, Outcome, run_command, write_quick_settings, write_tiny_digits
from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.distillation.events import EpochRecord, TrainingProgress, training_shares
from edgedistill.distillation.subdistill import distill as train
from edgedistill.models.student import build_student
from edgedistill.models.teacher import load_teacher
from edgedistill_cli.runs._learning import show_training
from edgedistill_cli.settings_file import read_settings
from edgedistill_deploy.bundle.folder import open_bundle
from edgedistill_deploy.report.page import render_report

TWIN = EMBEDDED / "glyphs100"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teaching")
    digits = write_tiny_digits(folder / "few.npz", counts=(8, 4, 4))
    return write_quick_settings(folder / "s.toml", digits, student="plain:8-8", opset=17, epochs=1, teacher_cache='"1"')


def distill(settings: Path, out: Path, *flags: str | Path) -> Outcome:
    return run_command("distill", "--config", settings, "--out", out, *flags)


def record_of(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = open_bundle(run).manifest["distillation"]
    return record


@pytest.fixture(scope="module")
def taught(settings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run with two teachers and an assistant."""
    run = tmp_path_factory.mktemp("taught") / "run"
    teachers = ("--teacher", "embedded:glyphs100", "--teacher", TWIN)
    outcome = distill(settings, run, *teachers, "--assistant", "plain:16-16")
    assert outcome.code == 0, outcome.stderr
    return run, outcome


def test_a_run_tells_and_keeps_who_taught(taught: tuple[Path, Outcome]) -> None:
    run, outcome = taught
    record = record_of(run)
    assert f"teacher {TWIN} beside embedded:glyphs100" in outcome.stderr
    assert outcome.stderr.count("teacher: the teacher is right on") == 2, "both are checked on images with labels"
    assert record["teachers_beside"][0]["name"] == TWIN.name
    assert "assistant: the assistant plain:16-16 was asked for" in outcome.stderr
    assert (record["assistant"]["asked"], record["assistant"]["chosen"]) == ("plain:16-16", "plain:16-16")
    assert record["assistant"]["multiply_adds"] > open_bundle(run).manifest["student"]["multiply_adds"]
    kept = read_settings(run / "settings.toml", {})
    assert (kept.teacher.name, kept.teacher.beside) == ("embedded:glyphs100", (str(TWIN),))
    assert kept.student.assistant == "plain:16-16"
    page = " ".join(render_report(open_bundle(run)).split())
    assert "the assistant plain:16-16 was asked for" in page
    assert "weighed image by image" in page


def test_a_second_command_keeps_all_and_one_whose_student_was_lost_keeps_the_assistant(
    taught: tuple[Path, Outcome], tmp_path: Path
) -> None:
    run = shutil.copytree(taught[0], tmp_path / "run")
    again = run_command("distill", "--config", run / "settings.toml", "--out", run)
    assert "distill: done before, kept" in again.stderr
    (run / "distill" / "student.safetensors").unlink()
    weights = run / "distill" / "assistant" / "student.safetensors"
    before = weights.stat().st_mtime_ns
    mended = run_command("distill", "--config", run / "settings.toml", "--out", run)
    assert mended.code == 0, mended.stderr
    assert weights.stat().st_mtime_ns == before
    assert record_of(run)["assistant"] == record_of(taught[0])["assistant"]
    other = distill(run / "settings.toml", run, "--assistant", "none")
    assert other.code == 2
    assert "student.assistant was 'plain:16-16' and is None" in other.stderr


def test_a_student_that_is_near_its_teacher_needs_no_assistant(settings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = distill(settings, run, "--student", "plain:32-64-64", "--assistant", "auto")
    assert outcome.code == 0, outcome.stderr
    assert "assistant: no assistant: the teacher has " in outcome.stderr
    record = record_of(run)["assistant"]
    assert (record["asked"], record["chosen"], record["choice"]) == ("auto", None, None)
    assert not (run / "distill" / "assistant").exists()


def test_auto_tries_sizes_in_between_and_says_why(settings: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    outcome = distill(settings, run, "--assistant", "auto", "--lambda-layer", "0")
    assert outcome.code == 0, outcome.stderr
    record = record_of(run)["assistant"]
    names = [each["name"] for each in record["choice"]["trials"]]
    assert names[0] == "none"
    assert len(names) > 1
    assert all(name.startswith("plain:8-8@") for name in names[1:])
    assert record["choice"]["chosen"] in names
    assert f"assistant: {record['sentence']}" in outcome.stderr
    assert record["sentence"] in record_of(run)["notes"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--teacher", "embedded:glyphs100", "--teacher", "embedded:glyphs100"], "is named twice"),
        (["--teacher", "embedded:glyphs100", "--teacher", "timm:resnet1"], "timm has no model 'resnet1'"),
        (["--teacher", "embedded:glyphs100", "--teacher", "timm:resnet18"], "timm:resnet18: The teacher has no class"),
        (["--assistant", "plain:8"], "A plain student is named by the widths of its stages"),
        (["--assistant", "plain:8-8@9"], "A student's width is a factor above 0 and at most 4 after an @"),
        (["--assistant", "auto", "--pairs", "layer1=stages.0"], "give --pairs or --assistant"),
        (["--classes", "0,1", "--subtask", "glyphs100/digits"], "--classes and --subtask both name the subtask"),
    ],
)
def test_what_makes_no_sense_is_one_sentence_before_anything_is_loaded(
    settings: Path, tmp_path: Path, flags: list[str], message: str
) -> None:
    outcome = distill(settings, tmp_path / "run", *flags, "--dry-run")
    assert outcome.code == 2, outcome.stderr
    assert message in " ".join(outcome.stderr.split())


def test_an_assistant_is_trained_in_one_process(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    outcome = distill(settings, tmp_path / "run", "--assistant", "auto")
    assert outcome.code == 2
    assert "--assistant trains in one process" in outcome.stderr


def test_a_comparison_has_one_teacher(settings: Path, tmp_path: Path) -> None:
    teachers = ("--teacher", "embedded:glyphs100", "--teacher", TWIN)
    outcome = run_command("compare", "--config", settings, "--out", tmp_path / "all", "--dry-run", *teachers)
    assert outcome.code == 2
    assert "A comparison trains every method under one teacher" in outcome.stderr


def test_one_teacher_on_the_command_line_replaces_all_of_the_file(settings: Path, tmp_path: Path) -> None:
    file = tmp_path / "several.toml"
    text = settings.read_text(encoding="utf-8")
    file.write_text(text.replace('name = "embedded:glyphs100"', 'name = "a"\nbeside = ["b"]'), encoding="utf-8")
    assert read_settings(file, {}).teacher.beside == ("b",)
    planned = json.loads(
        distill(file, tmp_path / "run", "--teacher", "embedded:glyphs100", "--dry-run", "--json").stdout
    )
    assert planned["settings"]["teacher"] == {"name": "embedded:glyphs100", "weights": "", "classes": ""}
    plain, none = read_settings(settings, {}), read_settings(settings, {"student.assistant": "none"})
    assert plain.key("teacher", "student") == none.key("teacher", "student")


def test_agreement_is_not_called_validation_in_the_lines_of_the_training() -> None:
    told: list[str] = []
    last = EpochRecord(
        epoch=0, loss=1.0, loss_kd=1.0, loss_task=0.0, loss_layers={}, validation_accuracy=0.7, learning_rate=0.1,
        seconds=1.0,
    )  # fmt: skip
    at = TrainingProgress(phase="training", epoch=1, epochs=2, step=1, steps=2, last=last)
    show = show_training(lambda done, total, note="": told.append(note))
    for each in (at, replace(at, judged_by="teacher")):
        show(each)
    assert told == ["training", "training: epoch 2/2, validation 70.0%", "training: epoch 2/2, agreement 70.0%"]


def test_each_phase_of_a_training_is_told_by_name_and_has_its_share(settings: Path) -> None:
    teacher, classes = load_teacher("embedded:glyphs100"), ("0", "1", "2", "3")
    images = split_for_subtask(open_source(f"npz:{settings.parent / 'few.npz'}"), classes)
    events: list[TrainingProgress] = []
    config = DistillConfig(epochs=3, teacher_cache="1", compute="cpu", augment="none")
    train(teacher, build_student("plain:8-8", 4), teacher.subtask(classes), images, config, progress=events.append)
    told: list[tuple[float, str]] = []
    show = show_training(lambda done, total, note="": told.append((done / total, note.split(":")[0])))
    for each in events:
        show(each)
    reached = [share for share, _ in told]
    assert reached == sorted(reached)
    assert 0.95 < reached[-1] < 1
    shares = events[0].shares
    whole, before = sum(shares.values()), 0.0
    for phase, name in {"subspaces": "subspaces", "teacher-cache": "teacher's answers", "training": "training"}.items():
        of_phase = [share for share, note in told if note == name]
        assert of_phase[0] == pytest.approx(before / whole, abs=0.002)
        assert of_phase[-1] == pytest.approx((before + shares[phase]) / whole, abs=0.002)
        before += shares[phase]


def test_the_shares_of_a_training_follow_the_costs_of_its_networks() -> None:
    config = DistillConfig(epochs=8, teacher_cache="auto")
    small, large = training_shares(config, 1e9, 1e7), training_shares(config, 1e9, 1e9)
    assert small["teacher-cache"] == large["teacher-cache"] == 4  # views
    assert large["training"] > 4 * small["training"]
    assert small["tuning"] == 0 < training_shares(replace(config, lambda_layer="auto"), 1e9, 1e7)["tuning"]
    live = training_shares(replace(config, teacher_cache="off"), 1e9, 1e7)
    assert live["teacher-cache"] == 0
    assert live["training"] == pytest.approx(small["training"] + 8)  # the teacher runs in every epoch
    assert training_shares(replace(config, lambda_layer=0.0), 1e9, 1e7)["subspaces"] == 0


def test_a_rival_without_labels_is_told_by_its_agreement(settings: Path, tmp_path: Path) -> None:
    with np.load(settings.parent / "few.npz") as source:
        images, labels = source["images"], source["labels"]
    (tmp_path / "loose").mkdir()
    for row in range(len(images)):
        Image.fromarray(images[row]).save(tmp_path / "loose" / f"{labels[row]}-{row}.png")
    outcome = distill(settings, tmp_path / "run", "--data", tmp_path / "loose", "--rivals", "--teacher-cache", "off")
    assert outcome.code == 0, outcome.stderr
    record = json.loads((tmp_path / "run" / "rivals" / "logits.json").read_text(encoding="utf-8"))
    assert record["judged_by"] == "teacher"
    assert 0 <= record["test_agreement"] <= 1
    assert "test_accuracy" not in record
