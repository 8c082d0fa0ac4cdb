"""Real, tiny comparisons: killed, in several processes, with runs that fail; the table is the same."""

import json
import multiprocessing
import os
import signal
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from edgedistill import build_student, load_teacher, open_source, split_for_subtask
from edgedistill.comparison import (
    METHODS,
    Comparison,
    ComparisonPlan,
    ComparisonProgress,
    Task,
    comparison_record,
    open_comparison,
    planned_runs,
    run_comparison,
    summarise,
    teacher_accuracy,
)
from edgedistill.comparison.results import Record
from edgedistill.models.student import read_student
from edgedistill_deploy.classes.groups import names_of
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.locks import hold_folder
from edgedistill_deploy.images.sets import batches
from reference.trained_starts import answers_of, write_start

FAST = {"epochs": 1, "augment": "none", "batch_size": 16, "compute": "cpu", "learning_rate": 1e-2}


def plan_of(npz: Path) -> ComparisonPlan:
    task = Task(
        name="digits",
        teacher="embedded:glyphs100",
        source=f"npz:{npz}",
        classes=tuple("0123"),
        student="plain:8-8",
        settings=FAST,
    )
    return ComparisonPlan(
        tasks=(task,),
        methods={name: METHODS[name] for name in ("subdistill", "labels")},
        seeds=(0, 1),
        sizes=(24,),
        lambdas=(1.0, 10.0),
        validation_images=20,
    )


def lines(folder: Path) -> list[Record]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def finished(tiny_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return run_comparison(plan_of(tiny_digits), tmp_path_factory.mktemp("finished"))


def test_every_run_is_made_once_and_the_chosen_ones_alone_are_tested(finished: Comparison) -> None:
    records = lines(finished.results.folder)
    assert [record["error"] for record in records if "error" in record] == []
    assert Counter(record["kind"] for record in records) == {"train": 5, "evaluate": 4, "teacher": 1}
    assert len({record["key"] for record in records}) == len(records)
    assert {record["train_images"] for record in records if record["kind"] == "train"} == {24}
    for row in summarise(finished):
        assert (len(row.runs), row.missing) == (2, 0)


def test_the_recorded_figures_are_those_of_the_stored_student(finished: Comparison) -> None:
    task = finished.plan.tasks[0]
    teacher = load_teacher(task.teacher)
    images = split_for_subtask(open_source(task.source), task.classes)
    assert images.test is not None
    tested = next(record for record in lines(finished.results.folder) if record["kind"] == "evaluate")
    student = read_student(
        build_student(task.student, 4, seed=tested["seed"]), finished.results.student_path(tested["trained"])
    ).eval()
    (pixels,) = batches(images.test, teacher.preprocess, 100)
    import torch

    with torch.no_grad():
        logits = student(teacher.normalise()(torch.from_numpy(pixels)))
    right = logits.argmax(dim=1).numpy() == images.test.labels
    assert tested["test_accuracy"] == pytest.approx(right.mean())
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(tested["correct_hex"]), dtype=np.uint8))
    assert np.array_equal(bits[: tested["test_images"]].astype(bool), right)
    for position, name in enumerate(images.test.class_names):
        members = images.test.labels == position
        assert tested["recall"][name] == pytest.approx(right[members].mean())


def test_the_teacher_is_measured_on_the_same_images(finished: Comparison) -> None:
    accuracy = teacher_accuracy(finished, "digits")
    assert accuracy is not None
    assert 0.9 < accuracy <= 1.0
    assert comparison_record(finished)["teacher_accuracy"] == accuracy


def test_a_finished_comparison_runs_nothing(finished: Comparison) -> None:
    seen: list[ComparisonProgress] = []
    again = run_comparison(finished.plan, finished.results.folder, progress=seen.append)
    assert seen == []
    assert summarise(again) == summarise(finished)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_a_process_that_is_killed_costs_its_run_alone_and_the_next_run_mends_it(
    finished: Comparison, tmp_path: Path
) -> None:
    killed: list[int] = []
    done: set[str] = set()

    def kill_one(at: ComparisonProgress) -> None:
        if at.record is not None:
            done.add(at.record["kind"])
        victim = next(iter(multiprocessing.active_children()), None)
        # Between two jobs, a training is under way in one process at least; without its teacher a task is given up as a
        # whole.
        last = at.record is not None and at.record["kind"] == "train"
        if not killed and last and "teacher" in done and victim is not None:
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    first = run_comparison(finished.plan, tmp_path, jobs=2, progress=kill_one)
    assert killed
    assert multiprocessing.active_children() == []
    (failure,) = first.results.failures()
    assert "the process ended with code -9; memory may have run out" in failure["error"]
    mended = run_comparison(finished.plan, tmp_path)
    assert mended.results.failures() == []
    assert summarise(mended) == summarise(finished)


def test_a_run_that_fails_keeps_no_other_from_being_done(finished: Comparison, tmp_path: Path) -> None:
    mad = {"learning_rate": 1e30, "gradient_clip": 0.0, "lambda_layer": 0.0}
    methods = {"mad": mad, "labels": METHODS["labels"]}
    comparison = run_comparison(replace(finished.plan, methods=methods, reference="labels"), tmp_path)
    failures = comparison.results.failures()
    assert {failure["method"] for failure in failures} == {"mad"}
    assert all("no longer a finite number" in failure["error"] for failure in failures)
    broken, labels = summarise(comparison)
    assert (broken.mean, broken.missing, broken.difference) == (None, 2, None)
    assert labels.runs == summarise(finished)[1].runs


def test_runs_that_ask_the_teacher_the_same_share_its_answers(finished: Comparison, tmp_path: Path) -> None:
    task = replace(finished.plan.tasks[0], settings={**FAST, "epochs": 2, "teacher_cache": "2"})
    methods = {"subdistill": METHODS["subdistill"]}
    plan = replace(finished.plan, tasks=(task,), methods=methods, seeds=(0,))
    places: set[str] = set()

    def look(at: ComparisonProgress) -> None:
        if at.record is not None and at.record["kind"] == "train":
            places.update(str(path) for path in (tmp_path / "teacher-caches").glob("*/*/cache.json"))

    comparison = run_comparison(plan, tmp_path, progress=look)
    assert comparison.results.failures() == []
    assert len(places) == 1
    assert not (tmp_path / "teacher-caches").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "timm:resnet10"}, "resnet10t"),
        ({"teacher": "embedded:glyphs"}, "no embedded teacher 'embedded:glyphs'"),
    ],
)
def test_a_student_or_teacher_that_cannot_be_had_stops_everything(
    finished: Comparison, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    task = Task(**{**asdict(finished.plan.tasks[0]), **changes})
    with pytest.raises(UsageError, match=message):
        run_comparison(replace(finished.plan, tasks=(task,)), tmp_path)
    assert not (tmp_path / "results.jsonl").exists()


def begun_plan(npz: Path, weights: Path) -> ComparisonPlan:
    plan = plan_of(npz)
    task = replace(plan.tasks[0], student="timm:test_resnet", student_weights=str(weights))
    return replace(plan, tasks=(task,), methods={name: METHODS[name] for name in ("labels", "as-is")}, reference="")


def test_a_student_whose_trained_head_has_the_classes_is_also_judged_as_it_starts(
    tiny_digits: Path, tmp_path: Path
) -> None:
    labels = ["9", "3", "2", "1", "0"]
    plan = begun_plan(tiny_digits, write_start(tmp_path / "start", labels))
    assert planned_runs(open_comparison(plan, tmp_path / "out")) == (2, 0)
    comparison = run_comparison(plan, tmp_path / "out")
    assert planned_runs(comparison) == (2, 2)
    assert comparison.results.failures() == []
    assert Counter(record["kind"] for record in lines(tmp_path / "out")) == {
        "teacher": 1,
        "begin": 1,
        "train": 2,
        "evaluate": 3,
    }
    task = plan.tasks[0]
    test = split_for_subtask(open_source(task.source), task.classes).test
    assert test is not None
    (pixels,) = batches(test, load_teacher(task.teacher).preprocess, 100)
    answers = answers_of(tmp_path / "start", labels, names_of(task.classes), pixels)
    right = np.mean([answer == task.classes[label] for answer, label in zip(answers, test.labels, strict=True)])

    trained, begun = summarise(comparison)
    assert (trained.method, begun.method) == ("labels", "as-is")
    assert begun.mean == pytest.approx(right)
    assert (begun.deviation, begun.trainings, begun.lambdas) == (0.0, 0, ())
    assert begun.difference is not None
    assert trained.mean is not None
    assert begun.difference.mean == pytest.approx(trained.mean - right)
    assert comparison_record(comparison)["absent"] == []
    seen: list[ComparisonProgress] = []
    run_comparison(plan, tmp_path / "out", progress=seen.append)
    assert seen == []


def test_a_student_that_lacks_a_class_as_it_starts_is_left_out_with_the_reason(
    tiny_digits: Path, tmp_path: Path
) -> None:
    plan = begun_plan(tiny_digits, write_start(tmp_path / "start", ["3", "2", "1", "other"]))
    record = comparison_record(run_comparison(plan, tmp_path / "out"))
    assert [row["method"] for row in record["rows"]] == ["labels"]
    (absent,) = record["absent"]
    assert absent["method"] == "as-is"
    assert absent["reason"] == "its trained weights know 3 of the 4 classes"

    plain = replace(plan_of(tiny_digits), methods=plan.methods, reference="labels")
    record = comparison_record(run_comparison(plain, tmp_path / "plain"))
    assert [each["reason"] for each in record["absent"]] == ["the student starts from nothing"]


def test_two_comparisons_do_not_share_a_folder(finished: Comparison, tmp_path: Path) -> None:
    told = "is in use by edgedistill compare, process"
    with hold_folder(tmp_path, "edgedistill compare"), pytest.raises(EdgeDistillError, match=told):
        run_comparison(finished.plan, tmp_path)


def test_a_script_without_a_main_guard_is_told_so(finished: Comparison, tmp_path: Path) -> None:
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from edgedistill.comparison import *\n"
        f"task = Task(name='d', teacher='embedded:glyphs100', source={finished.plan.tasks[0].source!r},"
        " classes=tuple('0123'), student='plain:8-8')\n"
        "plan = ComparisonPlan(tasks=(task,), methods=named_methods(['labels']))\n"
        f"run_comparison(plan, Path({str(tmp_path / 'out')!r}), jobs=2)\n",
        encoding="utf-8",
    )
    outcome = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert outcome.returncode != 0
    assert "below `if __name__" in outcome.stderr


def test_a_shrunk_teacher_is_compared_with_channels_of_the_drawn_images(tiny_digits: Path, tmp_path: Path) -> None:
    task = replace(plan_of(tiny_digits).tasks[0], student="teacher:0.5", student_weights="auto")
    plan = ComparisonPlan(
        tasks=(task, replace(task, name="random", student_channels="random")),
        methods={name: METHODS[name] for name in ("as-is", "labels")},
        seeds=(0,),
        sizes=(24,),
    )
    run_comparison(plan, tmp_path)
    records = lines(tmp_path)
    assert [record["error"] for record in records if "error" in record] == []
    trained = [record for record in records if record["kind"] == "train"]
    assert len({record["key"] for record in trained}) == 2
    tested = [record for record in records if record["kind"] == "evaluate"]
    assert len(tested) == 4
