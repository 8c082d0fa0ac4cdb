"""Training without labels, and with labels for some images: what has no label reaches no label loss and no count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import without_labels
from edgedistill.distillation._metrics import RunningMeans
from edgedistill.distillation.events import TrainingProgress, find_standing
from edgedistill.distillation.objective import label_loss
from edgedistill.distillation.record import distillation_record
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.distillation.training import predict_classes, true_classes
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.images.sets import NO_LABEL, ImageSet
from reference.small_networks import few_images, small_teacher

CLASSES = list("0123")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def labelled(tiny_digits: Path) -> SubtaskImages:
    return few_images(tiny_digits, CLASSES)


@pytest.fixture(scope="module")
def bare(labelled: SubtaskImages) -> SubtaskImages:
    """The same images without any label."""
    return SubtaskImages(
        train=without_labels(labelled.train, CLASSES),
        validation=without_labels(labelled.validation, CLASSES),
        test=None,
    )


def run(teacher: Teacher, images: SubtaskImages, folder: Path | None = None, **settings: object) -> DistillResult:
    config = DistillConfig(**{"epochs": 2, "batch_size": 16, "compute": "cpu", "augment": "none", **settings})  # type: ignore[arg-type]
    student = build_student("plain:8-8", len(CLASSES), image_size=teacher.preprocess.size, seed=0)
    return distill(teacher, student, teacher.subtask(CLASSES), images, config, folder=folder)


def answers(model: torch.nn.Module, teacher: Teacher, images: ImageSet, classes: list[int] | None) -> list[int]:
    """Ask about one image after another."""
    found = []
    for row in range(len(images)):
        pixels = torch.tensor(teacher.preprocess.apply(images.read(row)))[None]
        with torch.no_grad():
            logits = model(teacher.normalise()(pixels))[0]
        found.append(int((logits if classes is None else logits[classes]).argmax()))
    return found


def test_the_label_loss_is_the_mean_over_the_labelled_images() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([2, NO_LABEL, 0, NO_LABEL, 3])
    by_hand = [-float(torch.log_softmax(logits.detach()[row], 0)[label]) for row, label in ((0, 2), (2, 0), (4, 3))]
    loss = label_loss(logits, labels)
    assert float(loss.detach()) == pytest.approx(sum(by_hand) / 3, rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[[1, 3]].any(), "an image without a label pulls at nothing"


def test_the_label_loss_of_images_without_any_label_is_zero() -> None:
    logits = torch.randn(3, 4, requires_grad=True)
    loss = label_loss(logits, torch.full((3,), NO_LABEL))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert not gradient.any()


def test_the_mean_label_loss_counts_the_labelled_images_alone() -> None:
    means = RunningMeans()
    means.add({"kd": 1.0, "task": 6.0}, 10, 2)
    means.add({"kd": 3.0, "task": 0.0}, 10, 0)
    means.add({"kd": 5.0, "task": 3.0}, 20, 4)
    assert means.values() == {"kd": pytest.approx((10 + 30 + 100) / 40), "task": pytest.approx((12 + 12) / 6)}


def test_without_labels_the_student_is_judged_by_the_teachers_answers(
    teacher: Teacher, bare: SubtaskImages, tmp_path: Path
) -> None:
    result = run(teacher, bare, tmp_path)
    classes = list(teacher.subtask(CLASSES).class_indices)
    wanted = answers(teacher.model, teacher, bare.validation, classes)
    given = answers(result.student, teacher, bare.validation, None)
    agreement = float(np.mean([one == other for one, other in zip(given, wanted, strict=True)]))
    assert result.validation_accuracy == pytest.approx(agreement)
    assert result.teacher_validation_accuracy == 1.0
    assert result.judged_by == "teacher"
    assert result.standing is not None
    assert result.standing.against.size == len(bare.validation)
    assert result.standing.judged_by == "teacher"
    record = distillation_record(result, bare, DistillConfig())
    assert (record["judged_by"], record["unlabelled"]) == ("teacher", len(bare.train))


def test_labels_that_are_not_used_change_no_weight(
    teacher: Teacher, labelled: SubtaskImages, bare: SubtaskImages
) -> None:
    """Subspaces, logits and layer terms need no label: with one epoch, labelled and bare images train alike."""
    first, second = run(teacher, labelled, epochs=1), run(teacher, bare, epochs=1)
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(first.student.state_dict().values(), second.student.state_dict().values(), strict=True)
    )
    assert first.judged_by == "labels"


def test_a_few_labels_among_many_images_train(teacher: Teacher, labelled: SubtaskImages, bare: SubtaskImages) -> None:
    mixed = replace(labelled, train=_mix(labelled.train))
    result = run(teacher, mixed, epochs=1, lambda_task=1.0)
    assert np.isfinite(result.history[0].loss_task)
    assert result.history[0].loss_task > 0
    assert result.judged_by == "labels"


def _mix(images: ImageSet) -> ImageSet:
    """Return the images with a label for every eighth alone."""
    bare = without_labels(images, images.class_names)
    labels = np.where(np.arange(len(images)) % 8 == 0, images.labels, NO_LABEL)
    return replace(bare, labels=labels)  # type: ignore[type-var]  # a dataclass


def test_a_weight_for_labels_that_there_are_not_is_refused(teacher: Teacher, bare: SubtaskImages) -> None:
    with pytest.raises(
        UsageError, match=r"lambda_task = 1 is the weight of the labels, and no training image has a label"
    ):
        run(teacher, bare, lambda_task=1.0)


def test_a_killed_run_without_labels_goes_on_to_the_same_weights(
    teacher: Teacher, bare: SubtaskImages, tmp_path: Path
) -> None:
    whole = run(teacher, bare)

    class KilledError(Exception):
        pass

    def die(at: TrainingProgress) -> None:
        if (at.phase, at.epoch, at.step) == ("training", 1, 2):
            raise KilledError

    config = DistillConfig(epochs=2, batch_size=16, compute="cpu", augment="none")
    student = build_student("plain:8-8", len(CLASSES), image_size=teacher.preprocess.size, seed=0)
    with pytest.raises(KilledError):
        distill(teacher, student, teacher.subtask(CLASSES), bare, config, folder=tmp_path, progress=die)
    resumed = run(teacher, bare, tmp_path)
    assert [each.loss for each in resumed.history] == [each.loss for each in whole.history]
    assert resumed.validation_accuracy == whole.validation_accuracy


def test_automatic_settings_are_chosen_without_labels(teacher: Teacher, bare: SubtaskImages) -> None:
    pytest.importorskip("optuna")
    few = replace(bare, train=bare.train.select(range(16)), validation=bare.validation.select(range(8)))
    result = run(teacher, few, epochs=1, lambda_layer="auto", method="auto")
    assert result.lambda_choice is not None
    assert "agreement with the teacher in validation with 0.001 " in result.lambda_choice.describe()


def test_true_classes_are_labels_or_the_teachers_answers(
    teacher: Teacher, labelled: SubtaskImages, bare: SubtaskImages
) -> None:
    subtask = teacher.subtask(CLASSES)
    assert true_classes(teacher, subtask, labelled.validation).tolist() == labelled.validation.labels.tolist()
    wanted = answers(teacher.model, teacher, bare.validation, list(subtask.class_indices))
    assert true_classes(teacher, subtask, bare.validation).tolist() == wanted
    assert predict_classes(teacher.model, teacher, bare.validation, subtask.class_indices).tolist() == wanted


def test_a_standing_by_the_teacher_says_so() -> None:
    counts = np.array([[5, 5], [5, 5]]) * 10
    found = find_standing(counts, ("a", "b"), 3, "teacher")
    assert "the student answers as the teacher does on 50.0 % of 200 validation images" in found.sentence(
        DistillConfig(), 100
    )
    assert "is right on 50.0 % of 200" in find_standing(counts, ("a", "b"), 3).sentence(DistillConfig(), 100)
