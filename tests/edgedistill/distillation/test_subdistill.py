import itertools
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from edgedistill.config import DistillConfig
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.distillation._schedules import learning_rate_at
from edgedistill.distillation.events import TrainingProgress, Watcher, ignore
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.models.student import build_student
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.networks.layers import LayerPair
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from reference.small_networks import small_teacher

CLASSES = list("0123")
QUICK = {"epochs": 3, "batch_size": 16, "augment": "crop", "compute": "cpu"}
# Where any student will do, one of two layers with batch norm, which takes half of the time.
SMALL = "plain:8-8"


class KilledError(Exception):
    """Stands for the moment a run dies."""


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return small_teacher()


@pytest.fixture(scope="module")
def trained_teacher() -> Teacher:
    return load_teacher("embedded:glyphs100")


@pytest.fixture(scope="module")
def all_images(tiny_digits: Path) -> SubtaskImages:
    return split_for_subtask(open_source(f"npz:{tiny_digits}"), CLASSES)


@pytest.fixture(scope="module")
def images(all_images: SubtaskImages) -> SubtaskImages:
    """Every second training image and every third validation image: enough where nothing has to be learnt."""
    return SubtaskImages(
        train=all_images.train.select(range(0, len(all_images.train), 2)),
        validation=all_images.validation.select(range(0, len(all_images.validation), 3)),
        test=None,
    )


def run(
    teacher: Teacher,
    images: SubtaskImages,
    folder: Path | None = None,
    progress: Watcher = ignore,
    student_name: str = "timm:resnet10t",
    **settings: object,
) -> DistillResult:
    width = 0.125 if "resnet" in student_name else 1.0
    student = build_student(student_name, len(CLASSES), width=width)
    config = DistillConfig(**{**QUICK, **settings})  # type: ignore[arg-type]
    return distill(teacher, student, teacher.subtask(CLASSES), images, config, folder=folder, progress=progress)


def weights(result: DistillResult) -> dict[str, torch.Tensor]:
    return dict(result.student.state_dict())


def same(left: DistillResult, right: DistillResult) -> bool:
    mine, theirs = weights(left), weights(right)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_student_learns_and_keeps_its_best_epoch(trained_teacher: Teacher, all_images: SubtaskImages) -> None:
    teacher, images = trained_teacher, all_images
    result = run(teacher, images, epochs=12, batch_size=32)
    accuracies = [record.validation_accuracy for record in result.history]
    assert result.validation_accuracy == max(accuracies) > 0.6
    assert result.best_epoch == accuracies.index(max(accuracies))
    assert result.history[-1].loss < result.history[0].loss
    assert result.teacher_validation_accuracy > 0.9
    student = result.student
    right = 0
    for index, label in enumerate(images.validation.labels.tolist()):
        pixels = torch.tensor(teacher.preprocess.apply(images.validation.read(index)))[None]
        with torch.no_grad():
            right += int(student(teacher.normalise()(pixels)).argmax()) == label
    assert right / len(images.validation) == pytest.approx(result.validation_accuracy)


def test_the_seed_fixes_the_result(teacher: Teacher, images: SubtaskImages, whole: DistillResult) -> None:
    assert same(whole, run(teacher, images, student_name=SMALL))
    assert not same(whole, run(teacher, images, student_name=SMALL, seed=1))


def test_the_teacher_is_left_as_it_was(teacher: Teacher, images: SubtaskImages) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    run(teacher, images, epochs=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.model.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in teacher.model.parameters())
    assert not teacher.model.training
    assert not any(module._forward_hooks for module in teacher.model.modules())


@pytest.fixture(scope="module")
def whole(teacher: Teacher, images: SubtaskImages) -> DistillResult:
    """A run that nothing stopped."""
    return run(teacher, images, student_name=SMALL)


@pytest.mark.parametrize(("phase", "epoch", "step"), [("training", 1, 2), ("validation", 1, 1), ("training", 2, 4)])
def test_a_run_that_dies_goes_on_to_the_same_weights(
    teacher: Teacher, images: SubtaskImages, whole: DistillResult, tmp_path: Path, phase: str, epoch: int, step: int
) -> None:
    def die(at: TrainingProgress) -> None:
        if (at.phase, at.epoch, at.step) == (phase, epoch, step):
            raise KilledError

    with pytest.raises(KilledError):
        run(teacher, images, folder=tmp_path, progress=die, student_name=SMALL)
    seen: list[int] = []

    def look(at: TrainingProgress) -> None:
        if at.phase == "training":
            seen.append(at.epoch)

    resumed = run(teacher, images, folder=tmp_path, progress=look, student_name=SMALL)
    assert min(seen) == epoch
    assert same(whole, resumed)
    assert [record.loss for record in whole.history] == [record.loss for record in resumed.history]


def test_metrics_are_one_json_line_an_epoch(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    result = run(teacher, images, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert set(lines[0]["loss_layers"]) == {pair.teacher for pair in result.pairs}
    total = lines[0]["loss_kd"] + lines[0]["loss_task"] + sum(lines[0]["loss_layers"].values())
    assert lines[0]["loss"] == pytest.approx(total)


def test_another_runs_checkpoint_is_refused(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    run(teacher, images, folder=tmp_path, student_name=SMALL, epochs=1)
    with pytest.raises(EdgeDistillError, match="belongs to a run with other settings or images"):
        run(teacher, images, folder=tmp_path, student_name=SMALL, epochs=2)


def test_a_damaged_checkpoint_is_named(teacher: Teacher, images: SubtaskImages, tmp_path: Path) -> None:
    run(teacher, images, folder=tmp_path, student_name=SMALL, epochs=1)
    state = tmp_path / "checkpoint" / "state.pt"
    state.write_bytes(state.read_bytes()[:-2000])
    with pytest.raises(EdgeDistillError, match=r"state\.pt cannot be read; delete it"):
        run(teacher, images, folder=tmp_path, student_name=SMALL, epochs=1)


def test_a_diverging_run_stops_with_what_to_do(teacher: Teacher, images: SubtaskImages) -> None:
    with pytest.raises(
        EdgeDistillError, match=r"layer 'layer1' is no longer a finite number\. Lower learning_rate \(now 1e\+30\)"
    ):
        run(teacher, images, learning_rate=1e30, gradient_clip=0.0, schedule="constant")


@pytest.mark.parametrize("alignment", ["procrustes", "learned"])
@pytest.mark.parametrize(
    ("broken", "named"), [("stages.0.conv1", "layer2"), ("stages.1.conv2", "layer3"), ("head", "'kd'")]
)
def test_the_layer_where_numbers_cease_to_be_finite_is_named(
    teacher: Teacher, images: SubtaskImages, alignment: str, broken: str, named: str
) -> None:
    student = build_student("plain:8-8", len(CLASSES))
    pairs = [LayerPair(teacher="layer2", student="stages.0"), LayerPair(teacher="layer3", student="stages.1")]
    with torch.no_grad():
        next(student.get_submodule(broken).parameters()).fill_(float("nan"))
    with pytest.raises(EdgeDistillError, match=f"{named}.* is no longer a finite number"):
        distill(
            teacher,
            student,
            teacher.subtask(CLASSES),
            images,
            DistillConfig(epochs=1, compute="cpu", alignment=alignment),
            pairs=pairs,
        )


def test_labels_alone_need_no_layers(teacher: Teacher, images: SubtaskImages) -> None:
    result = run(teacher, images, epochs=1, lambda_kd=0.0, lambda_layer=0.0, lambda_task=1.0)
    record = result.history[0]
    assert record.loss_layers == {}
    assert record.loss == pytest.approx(record.loss_task)
    assert 0.5 < record.loss_task < 3


def test_the_first_logit_loss_is_that_of_the_formula(trained_teacher: Teacher, images: SubtaskImages) -> None:
    """One step without momentum of anything: the mean loss of the only batch is the loss of the untrained student."""
    teacher = trained_teacher
    count = len(images.train)
    result = run(teacher, images, epochs=1, batch_size=count, lambda_layer=0.0, augment="none", learning_rate=1e-9)
    student = build_student("timm:resnet10t", len(CLASSES), width=0.125).train()
    pixels = torch.stack([torch.tensor(teacher.preprocess.apply(images.train.read(index))) for index in range(count)])
    with torch.no_grad():
        floats = teacher.normalise()(pixels)
        y, z = student(floats).double(), teacher.model(floats)[:, :4].double()
    p = F.softmax(z / 4, dim=1)
    expected = 16 * (p * (p.log() - F.log_softmax(y / 4, dim=1))).sum(dim=1).mean()
    assert result.history[0].loss_kd == pytest.approx(float(expected), rel=1e-4)


def test_a_mobile_student_learns_from_a_residual_teacher(trained_teacher: Teacher, images: SubtaskImages) -> None:
    result = run(trained_teacher, images, epochs=1, student_name="timm:lcnet_035")
    assert len(result.pairs) >= 3
    assert all(0 < value < 1e3 for value in result.history[0].loss_layers.values())


def test_a_student_wider_than_its_teacher_trains(teacher: Teacher, images: SubtaskImages) -> None:
    student = build_student("timm:resnet10t", len(CLASSES), width=1.0)
    config = DistillConfig(epochs=1, batch_size=32, compute="cpu")
    result = distill(teacher, student, teacher.subtask(CLASSES), images, config)
    assert result.subspaces[result.pairs[0].teacher].basis.shape == (8, 8)


def test_pairs_given_by_hand_are_the_ones_that_are_matched(trained_teacher: Teacher, images: SubtaskImages) -> None:
    teacher = trained_teacher
    student = build_student("timm:resnet10t", len(CLASSES), width=0.125)
    pairs = [LayerPair(teacher="layer3", student="layer2"), LayerPair(teacher="layer4.0", student="layer4")]
    result = distill(
        teacher,
        student,
        teacher.subtask(CLASSES),
        images,
        DistillConfig(epochs=1, batch_size=32, compute="cpu"),
        pairs=pairs,
    )
    assert list(result.pairs) == pairs
    assert set(result.history[0].loss_layers) == {"layer3", "layer4.0"}
    # Ranks are the student's widths.
    assert {name: found.basis.shape[1] for name, found in result.subspaces.items()} == {"layer3": 16, "layer4.0": 64}


def test_a_layer_paired_twice_is_refused(teacher: Teacher, images: SubtaskImages) -> None:
    student = build_student("timm:resnet10t", len(CLASSES), width=0.125)
    pairs = [LayerPair(teacher="layer3", student=name) for name in ("layer2", "layer3")]
    with pytest.raises(UsageError, match="teacher's layer 'layer3' stands in 2 pairs"):
        distill(teacher, student, teacher.subtask(CLASSES), images, pairs=pairs)


def test_compute_that_is_not_there_is_refused(teacher: Teacher, images: SubtaskImages) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UsageError, match="compute = 'cuda' is not available on this machine; it has: cpu"):
        run(teacher, images, compute="cuda")


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_learning_rates_stay_between_zero_and_the_peak(schedule: str) -> None:
    config = DistillConfig(schedule=schedule, learning_rate=0.1)
    rates = [learning_rate_at(step, 200, config) for step in range(200)]
    assert all(0 < rate <= 0.1 for rate in rates)
    assert max(rates) == pytest.approx(0.1)
    if schedule == "step":
        assert [rates[index] for index in (0, 50, 100, 150)] == [0.1, 0.05, 0.025, 0.0125]
    if schedule == "cosine":
        assert rates[-1] < 1e-4
        assert rates[0] < 0.01


@pytest.mark.parametrize("warmup", [None, 0.0, 0.25, 0.5])
def test_the_rate_of_cosine_rises_in_a_line_over_its_warmup_and_then_falls(warmup: float | None) -> None:
    config = DistillConfig(warmup=warmup, learning_rate=0.1)
    rates = [learning_rate_at(step, 200, config) for step in range(200)]
    rising = round(200 * (0.1 if warmup is None else warmup))
    assert rates[:rising] == pytest.approx([0.1 * (step + 1) / rising for step in range(rising)])
    assert rates[rising] == pytest.approx(0.1)
    assert all(before > after for before, after in itertools.pairwise(rates[rising:]))
