"""An assistant: trained once, read afterwards, chosen by short runs, and never the judge of its student."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import without_labels
from edgedistill.distillation.assistance.assistant import Assistant, Begin, Beginner, teach, train_assistant
from edgedistill.distillation.assistance.choosing import AssistantTrial, _choose, choose_assistant
from edgedistill.distillation.events import TrainingProgress
from edgedistill.distillation.lesson import Lesson
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from edgedistill.networks.cost import count_cost
from edgedistill_deploy.errors import EdgeDistillError
from reference.small_networks import few_images, small_teacher

CLASSES = list("0123")
CONFIG = DistillConfig(epochs=2, batch_size=12, augment="none", compute="cpu")
SHORT = replace(CONFIG, epochs=1, lambda_layer=0.0)


@pytest.fixture(scope="module")
def lesson(tiny_digits: Path) -> Lesson:
    teacher, images = small_teacher(), few_images(tiny_digits, CLASSES)
    images = replace(images, train=images.train.select(range(0, 80, 3)))
    return Lesson(teacher=teacher, subtask=teacher.subtask(CLASSES), images=images)


def begin(name: str, teacher: Teacher) -> Begin:
    return lambda: Beginner(network=build_student(name, len(CLASSES)), mean=teacher.mean, std=teacher.std)


@pytest.fixture(scope="module")
def trained(lesson: Lesson, tmp_path_factory: pytest.TempPathFactory) -> tuple[Assistant, Path]:
    folder = tmp_path_factory.mktemp("assistant")
    return train_assistant("plain:12-12", begin("plain:12-12", lesson.teacher)(), lesson, CONFIG, folder), folder


class StoppedError(Exception):
    pass


def stop(_: TrainingProgress) -> None:
    raise StoppedError


def test_a_trained_assistant_is_read_and_another_task_trains_anew(
    lesson: Lesson, trained: tuple[Assistant, Path]
) -> None:
    assistant, folder = trained
    fresh = begin("plain:12-12", lesson.teacher)
    again = train_assistant("plain:12-12", fresh(), lesson, CONFIG, folder, progress=stop)
    assert again.to_json() == assistant.to_json()
    own, other = (each.guide.teacher.model.state_dict() for each in (again, assistant))
    assert all(torch.equal(own[name], other[name]) for name in own)
    fewer = replace(lesson, images=replace(lesson.images, train=lesson.images.train.select(range(12))))
    with pytest.raises(EdgeDistillError, match="belongs to a run with other settings or images"):
        train_assistant("plain:12-12", fresh(), fewer, CONFIG, folder, progress=stop)


def test_an_assistant_whose_training_was_stopped_goes_on(
    lesson: Lesson, trained: tuple[Assistant, Path], tmp_path: Path
) -> None:
    def stop_late(at: TrainingProgress) -> None:
        if (at.phase, at.epoch, at.step) == ("training", 1, 2):
            raise StoppedError

    fresh = begin("plain:12-12", lesson.teacher)
    with pytest.raises(StoppedError):
        train_assistant("plain:12-12", fresh(), lesson, CONFIG, tmp_path, progress=stop_late)
    resumed = train_assistant("plain:12-12", fresh(), lesson, CONFIG, tmp_path)
    assert resumed.to_json() == trained[0].to_json()


def test_the_student_is_matched_with_the_assistant_and_judged_by_the_teacher(
    lesson: Lesson, trained: tuple[Assistant, Path]
) -> None:
    images = SubtaskImages(
        train=without_labels(lesson.images.train, CLASSES),
        validation=without_labels(lesson.images.validation, CLASSES),
        test=None,
    )
    bare = replace(lesson, images=images)
    guide = trained[0].guide
    result = teach(build_student("plain:8-8", len(CLASSES)), bare, CONFIG, assistant=guide)
    assert {each.teacher for each in result.pairs} <= set(dict(guide.teacher.model.named_modules()))
    teacher = lesson.teacher
    pixels = torch.stack(
        [torch.tensor(teacher.preprocess.apply(images.validation.read(row))) for row in range(len(images.validation))]
    )
    with torch.no_grad():
        shown = teacher.normalise()(pixels)
        wanted = teacher.model(shown)[:, :4].argmax(1)
        given = result.student(shown).argmax(1)
    assert result.validation_accuracy == pytest.approx(float((wanted == given).float().mean()))
    assert (result.judged_by, result.teacher_validation_accuracy) == ("teacher", 1.0)


def test_a_choice_keeps_its_finished_trials_and_says_what_it_tried(lesson: Lesson, tmp_path: Path) -> None:
    teacher = lesson.teacher
    candidates = {name: begin(name, teacher) for name in ("plain:12-12", "plain:16-16")}
    student = begin("plain:8-8", teacher)
    seen: list[TrainingProgress] = []
    first = choose_assistant(candidates, student, lesson, SHORT, tmp_path, progress=seen.append)
    assert [each.name for each in first.trials] == ["none", "plain:12-12", "plain:16-16"]
    assert {each.phase for each in seen} == {"assistant"}
    shares = [(each.epoch + each.step / each.steps) / each.epochs for each in seen]
    assert shares == sorted(shares)
    assert shares[-1] <= 1
    cost = count_cost(build_student("plain:12-12", 4), teacher.preprocess.size).multiply_adds
    assert first.trials[1].multiply_adds == cost
    for trial in first.trials:
        assert trial.describe() in first.describe()
    assert first.to_json()["chosen"] == first.chosen

    kept = json.loads((tmp_path / "trials.json").read_text(encoding="utf-8"))
    (tmp_path / "trials.json").write_text(json.dumps({**kept, "trials": kept["trials"][:2]}), encoding="utf-8")
    calls: list[TrainingProgress] = []
    again = choose_assistant(candidates, student, lesson, SHORT, tmp_path, progress=calls.append)
    assert again == first
    assert min(each.epoch for each in calls) == 2 * 2 * again.epochs, "only the last candidate was tried"
    assert choose_assistant(candidates, student, lesson, SHORT, tmp_path, progress=stop) == first


@pytest.mark.parametrize(
    ("accuracies", "chosen"),
    [
        ((0.50, 0.56, 0.58), "b"),
        ((0.50, 0.58, 0.58), "a"),  # of equals the smaller
        ((0.50, 0.54, 0.55), "none"),  # within one standard error, 5 points of 100 images
        ((0.50, None, 0.60), "b"),
        ((0.50, None, None), "none"),
        ((1.00, 1.00, 1.00), "none"),
    ],
)
def test_an_assistant_is_chosen_where_it_is_clearly_better(accuracies: tuple[float | None, ...], chosen: str) -> None:
    trials = [
        AssistantTrial(name=name, validation_accuracy=each)
        for name, each in zip(("none", "a", "b"), accuracies, strict=True)
    ]
    found, margin = _choose(trials, 100)
    assert found == chosen
    assert margin == pytest.approx(0.05 if accuracies[0] == 0.5 else 0.0)


def test_without_a_run_of_the_student_alone_nothing_is_chosen() -> None:
    with pytest.raises(EdgeDistillError, match="The short run without an assistant failed: the loss"):
        _choose([AssistantTrial(name="none", reason="the loss")], 10)
