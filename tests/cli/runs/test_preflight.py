"""What is wrong with a run is told at once, in one list, without torch."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import edgedistill
from command import run_command
from edgedistill_cli.settings_file import SettingsError, settings_from_tables
from edgedistill_deploy.files.locks import hold_folder

TEACHER = ("--teacher", "embedded:glyphs100")
WITHOUT_TORCH = """
import sys
for name in ("torch", "torchvision", "timm", "accelerate", "safetensors", "onnx", "onnxruntime"):
    sys.modules[name] = None  # any import of it now fails
from edgedistill_cli.app import main
main()
"""


def write_folder(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((4, 4, 3), number, dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data", {"1": 5, "2": 4, "3": 2})


def planned(data: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("build", *TEACHER, "--data", data, "--out", out, "--dry-run", *more)


def listed(stderr: str) -> list[str]:
    """Return the problems below the heading."""
    return [line.strip() for line in stderr.splitlines() if line.startswith("  ")]


def test_a_plan_counts_the_images_of_each_class_and_the_room(data: Path, tmp_path: Path) -> None:
    outcome = run_command(*planned(data, tmp_path / "out", "--classes", "2,1", "--student", "plain:8-8", "--json"))
    assert outcome.code == 0, outcome.stderr
    record = json.loads(outcome.stdout)
    assert record["problems"] == []
    assert record["images"] == {"training": {"2": 4, "1": 5}}
    assert record["room"]["needed_bytes"] > (3 * 8 + 8 * 8 + 8 * 8 + 8 * 8) * 9 * 4, "the weights alone"
    assert record["room"]["free_bytes"] > record["room"]["needed_bytes"]
    assert not (tmp_path / "out").exists()
    shown = run_command(*planned(data, tmp_path / "out", "--classes", "2,1", "--student", "plain:8-8")).stdout
    assert "needed (checkpoints" in shown


def test_the_room_of_a_student_of_timm_counts_each_file_that_has_its_weights(data: Path, tmp_path: Path) -> None:
    student = ("--student", "timm:resnet10t", "--student-weights", "none")
    outcome = run_command(*planned(data, tmp_path / "out", "--classes", "2,1", *student, "--json"))
    assert outcome.code == 0, outcome.stderr
    teacher = Path(edgedistill.__file__).parent / "embedded" / "glyphs100" / "model.safetensors"
    # student.safetensors, FP32, FP16, INT8 three times, and timm's folder; with the head of a thousand classes
    weights = 4 * sum(each.numel() for each in timm.create_model("resnet10t").parameters())
    assert json.loads(outcome.stdout)["room"]["parts_bytes"]["models"] == pytest.approx(
        weights * (1 + 1 + 0.5 + 3 * 0.25 + 1) + teacher.stat().st_size, rel=0.02
    )


@pytest.mark.parametrize("dry", [("--dry-run", "--json"), ()])
def test_all_problems_are_told_in_one_list_without_torch(data: Path, tmp_path: Path, dry: tuple[str, ...]) -> None:
    words = (
        "build", *TEACHER, "--data", data, "--out", tmp_path / "out", "--classes", "1,3,7,@foo@,@bar@",
        "--student", "timm:resnet5O", "--epochs", "0", "--batch-size", "0", *dry,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    problems = listed(done.stderr)
    expected = [
        "epochs must be",
        "batch_size must be",
        "timm has no model 'resnet5O'. Did you mean resnet50",
        "The teacher has no class '@foo@', '@bar@'",
        "The training images have no class '7'",
        "training, validation and test images, which takes 3 of each: '3' has 2",
    ]
    assert len(problems) == len(expected), problems
    assert all(part in problem for part, problem in zip(expected, problems, strict=True)), problems
    assert "6 things must change" in done.stderr
    if dry:
        assert json.loads(done.stdout)["problems"] == problems
    assert not (tmp_path / "out").exists()


def one_set_of_settings(data: Path, out: Path) -> tuple[str | Path, ...]:
    return ("--data", data, *TEACHER, "--classes", "1,9,lion", "--out", out)


@pytest.mark.parametrize(
    "command",
    [
        lambda *words: ("distill", *words, "--student", "plain:x"),
        lambda *words: ("compare", *words, "--student", "plain:x", "--dry-run"),
        lambda *words: ("inspect", *words, "--student", "plain:x"),
        lambda *words: ("plan", *words, "--budget-ms", "1"),
    ],
    ids=["distill", "compare", "inspect", "plan"],
)
def test_commands_that_share_inputs_share_the_list(
    data: Path, tmp_path: Path, command: Callable[..., tuple[str | Path, ...]]
) -> None:
    (tmp_path / "out").mkdir()
    with hold_folder(tmp_path / "out", "edgedistill build"):
        words = command(*one_set_of_settings(data, tmp_path / "out"))
        outcome = run_command(*words)
    problems = listed(outcome.stderr)
    assert (outcome.code, outcome.stdout) == (2, "")
    expected = [
        "is in use by edgedistill build",
        *(["A plain student is named by"] if "plain:x" in words else []),
        "The teacher has no class 'lion'",
        "The training images have no class '9'",
    ]
    assert len(problems) == len(expected), problems
    assert all(part in problem for part, problem in zip(expected, problems, strict=True)), problems


def test_one_problem_alone_keeps_its_sentence_and_its_code(data: Path, tmp_path: Path) -> None:
    words = planned(data, tmp_path / "out", "--classes", "1,2,9", "--student", "plain:8-8")
    outcome = run_command(*words)
    assert outcome.code == 1
    assert outcome.stderr == "error: The training images have no class '9'. Known: 1, 2, 3.\n"


def test_too_little_room_is_told_with_its_numbers(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type(shutil.disk_usage(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    outcome = run_command(*planned(data, tmp_path / "out", "--classes", "1,2", "--student", "plain:64-64"))
    assert outcome.code == 1
    assert "too little room for the run" in outcome.stderr
    assert "1.00 kB free" in outcome.stderr


def test_a_finished_run_needs_neither_its_images_nor_room(built_run: Path) -> None:
    words = ("build", "--config", built_run / "settings.toml", "--out", built_run, "--dry-run", "--json")
    record = json.loads(run_command(*words).stdout)
    assert {each["status"] for each in record["plan"]} == {"kept"}
    assert (record["images"], record["problems"], record["room"]["needed_bytes"]) == ({}, [], 0)


WRONG = {"epochs": 0, "batch_size": 0, "temperature": -1.0, "ema": 2.0, "schedule": "spiral", "lambda_kd": -1.0}


@given(st.sets(st.sampled_from(sorted(WRONG)), min_size=2), st.booleans())
def test_every_wrong_value_is_told_whatever_stands_beside_it(keys: set[str], misspelt: bool) -> None:
    tables = {
        "data": {"source": "x"},
        "teacher": {"name": "t"},
        "subtask": {"classes": ["a", "b"]},
        "student": {"name": "s"},
        "distill": {key: WRONG[key] for key in keys} | ({"epoch": 3} if misspelt else {}),
        "validate": {"max_drop": -1.0},
    }
    with pytest.raises(SettingsError) as caught:
        settings_from_tables(tables, origin="mine.toml")
    problems = caught.value.problems
    assert len(problems) == len(keys) + misspelt + 1
    assert all(any(key in problem for problem in problems) for key in keys)
    assert caught.value.rest is not None
    assert caught.value.rest.data.source == "x"


def test_weights_that_cannot_be_fetched_are_told_without_torch(data: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"  # nobody listens there
    words = (
        "--data", data, "--teacher", "timm:resnet50", "--student", "timm:resnet10t", "--classes", "lion,tiger",
        "--out", tmp_path / "out",
    )  # fmt: skip
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "0"}

    def run(*more: str) -> list[str]:
        command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, (*more, *words))]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode
        return [line.strip().removeprefix("error: ") for line in done.stderr.splitlines()]

    shut = "are not on this machine, and 127.0.0.1 could not be reached (Connection refused); give"
    for command, both in (("distill", True), ("compare", True), ("inspect", False)):
        told = "\n".join(run(command))
        assert f"The pretrained weights of timm:resnet50 {shut} a file with --teacher-weights" in told
        assert (f"The pretrained weights of timm:resnet10t {shut} --student-weights none" in told) == both
        assert "have no class 'lion', 'tiger'" in told
    (problem,) = run("build", "--dry-run")
    assert problem.startswith(
        "The training images have no class 'lion', 'tiger'. Known: 1, 2, 3. Images that are sorted"
    )


def test_a_plan_says_how_the_folder_was_understood_and_what_is_lost_by_name(data: Path, tmp_path: Path) -> None:
    (data / "1" / "@eaDir").mkdir()
    (data / "1" / "@eaDir" / "thumb.jpg").touch()
    (data / "2" / "clip.mp4").touch()
    shown = run_command(*planned(data, tmp_path / "out", "--classes", "1,2", "--student", "plain:8-8", "--json"))
    assert json.loads(shown.stdout)["notes"] == [
        "Folders of the system passed over, with 1 image: 1/@eaDir.",
        "1 file of the folders is not used: 1 video (.mp4): clip.mp4.",
    ]
    assert all(f"note: {note}" in shown.stderr for note in json.loads(shown.stdout)["notes"])
    for number in range(6):
        (data / "2" / f"IMG_{number}.HEIC").touch()
    refused = run_command(*planned(data, tmp_path / "out", "--classes", "1,2", "--student", "plain:8-8"))
    assert refused.code == 1
    assert "6 of the 10 pictures of class '2' cannot be used: 6 HEIC" in refused.stderr
    allowed = planned(data, tmp_path / "out", "--classes", "1,2", "--student", "plain:8-8", "--max-bad", "70%")
    assert run_command(*allowed).code == 0


def test_a_problem_that_two_checks_meet_is_told_once(data: Path, tmp_path: Path) -> None:
    words = planned(data, tmp_path / "out", "--subtask", "imagenet/cat", "--student", "plain:x")
    problems = listed(run_command(*words).stderr)
    assert len(problems) == 2
    assert sum("'imagenet/cat' can mean 2 subtasks" in each for each in problems) == 1


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("timm:hf-hub:resnet50", "is named timm:hf-hub:OWNER/NAME, and timm:hf-hub:resnet50 was given"),
        ("transformers:resnet", "transformers:resnet is neither OWNER/NAME of the hub nor an existing folder"),
        ("python:mine", "is named python:MODULE:FUNCTION, and python:mine was given"),
        ("python:mine:make", "The teacher python:mine:make runs Python code of yours"),
    ],
)
def test_a_teacher_that_cannot_be_named_so_stands_in_the_list(
    data: Path, tmp_path: Path, teacher: str, message: str
) -> None:
    words = ("--data", data, "--out", tmp_path / "out", "--classes", "1,2", "--student", "plain:x", "--dry-run")
    problems = listed(run_command("build", "--teacher", teacher, *words).stderr)
    assert len(problems) == 2
    assert message in problems[0]


def test_files_of_weights_and_numbers_that_cannot_be_stand_in_the_list(data: Path, tmp_path: Path) -> None:
    words = ("--data", data, "--out", tmp_path / "out", "--classes", "1,2", "--dry-run")
    asked = (
        "--teacher", "timm:resnet50", "--teacher-weights", "mine.pth", "--teacher-classes", "mine.txt",
        "--student", "timm:resnet10t", "--student-weights", "start.pth", "--student-width", "0", "--image-size", "-7",
    )  # fmt: skip
    problems = listed(run_command("build", *words, *asked).stderr)
    expected = [
        "data.image_size is -7; it must be a side from 1 to 8192 pixels, or 0",
        "The student width is a factor above 0 and at most 4, and 0.0 was given",
        "There is no weights file mine.pth",
        "There is no class file mine.txt",
        "There is no start.pth to start the student from",
    ]
    assert len(problems) == len(expected), problems
    assert all(any(part in problem for problem in problems) for part in expected), problems
    scaled = listed(run_command("distill", *words, *asked[:-4]).stderr)
    assert any("There is no start.pth to start the student from" in each for each in scaled), scaled


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("timm:vit_small_patch14_dinov2", "end before the logits, so they tell no classes apart"),
        ("torchvision:resnet5O", "torchvision has no classifier 'resnet5O'. Did you mean resnet50"),
        ("torchvision:resnet50:V2", "torchvision has no weights 'V2' of resnet50. Known: IMAGENET1K_V2"),
        ("resnet50", "Give one of them with --teacher. Did you mean timm:resnet50?"),
    ],
)
def test_teachers_that_newcomers_name_are_refused_with_what_to_do(
    data: Path, tmp_path: Path, teacher: str, message: str
) -> None:
    outcome = run_command(
        "build", "--data", data, "--out", tmp_path / "out", "--classes", "1,2", "--student", "plain:8-8",
        "--teacher", teacher, "--dry-run",
    )  # fmt: skip
    assert (outcome.code, message in outcome.stderr) == (2, True), outcome.stderr


def test_the_classes_of_torchvisions_teachers_are_looked_up_too(data: Path, tmp_path: Path) -> None:
    words = ("build", "--data", data, "--out", tmp_path / "out", "--student", "plain:8-8", "--dry-run")
    outcome = run_command(*words, "--teacher", "torchvision:resnet50", "--classes", "crane,hippo")
    assert "'crane' can mean 2 classes: crane (bird)" in outcome.stderr
    assert "The training images have no class 'hippo'" in outcome.stderr
    assert "The teacher has no class" not in outcome.stderr
