"""SubDistill: a student learns to agree with its teacher on a subtask."""

import contextlib
import copy
import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from edgedistill.compute.accelerator import (
    forked_random_numbers,
    memory_format,
    on_device,
    open_accelerator,
    with_formats,
)
from edgedistill.config import FROZEN, TUNED, DistillConfig
from edgedistill.data.feeding import Feed
from edgedistill.data.keeping import ImageMemory, open_image_memory
from edgedistill.data.loader import Augmentation, Pass, Share, batch_shares
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import JudgedBy, judged_by, labelled_rows
from edgedistill.distillation._checkpoint import read_best_weights
from edgedistill.distillation._subspaces import find_task_subspaces
from edgedistill.distillation._task import Task, fingerprint_of
from edgedistill.distillation.events import EpochRecord, Standing, Watcher, ignore, training_shares, with_shares
from edgedistill.distillation.lesson import Guide, Lesson, check_beside, for_student
from edgedistill.distillation.objective import Objective, match_layers
from edgedistill.distillation.teacher_guidance import TeacherGuidance, ask_for_logits, with_cache
from edgedistill.distillation.training import EVALUATION_BATCH, Feeds, Outcome, Run, train
from edgedistill.distillation.tuning import LambdaChoice, choose_lambda
from edgedistill.models.normalise import normalise_of
from edgedistill.models.teacher import Teacher
from edgedistill.networks.average import build_average
from edgedistill.networks.cost import count_cost
from edgedistill.networks.layers import LayerPair, capture
from edgedistill.networks.modes import evaluating, train_with
from edgedistill.networks.trial import try_network
from edgedistill.subspaces.directions import Subspace
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import EdgeDistillError


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillResult:
    """A trained student, holding the weights of its best epoch on validation images.

    `standing` compares it with chance; None where a checkpoint of an earlier version does not tell. `doubted_after` is
    the number of epochs after which the training said that little was learnt, or 0. `judged_by` says what accuracies
    are held against: "teacher" where no validation image has a label, so that they are agreement with the teacher.
    `loading` says how the images were read, see `ImageMemory.to_json`.
    """

    student: nn.Module
    subtask: Subtask
    pairs: tuple[LayerPair, ...]
    subspaces: Mapping[str, Subspace]
    history: tuple[EpochRecord, ...]
    best_epoch: int
    validation_accuracy: float
    teacher_validation_accuracy: float
    lambda_layer: float
    lambda_choice: LambdaChoice | None = None
    standing: Standing | None = None
    doubted_after: int = 0
    judged_by: JudgedBy = "labels"
    loading: Mapping[str, int] = field(default_factory=dict)

    @property
    def equal_epochs(self) -> int:
        """How many epochs had the best one's validation accuracy; the validation loss decided between them."""
        return sum(each.validation_accuracy == self.validation_accuracy for each in self.history)


def distill(
    teacher: Teacher,
    student: nn.Module,
    subtask: Subtask,
    images: SubtaskImages,
    config: DistillConfig | None = None,
    *,
    pairs: Sequence[LayerPair] | None = None,
    subspaces: Mapping[str, Subspace] | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
    beside: Sequence[Guide] = (),
    reference: Guide | None = None,
    progress: Watcher = ignore,
) -> DistillResult:
    """Train `student` with SubDistill (Chormai et al. 2026; `docs/method.md`).

    Args:
        teacher: does not change.
        student: is trained in place. It ends with the weights of the best epoch on the validation images: the highest
            accuracy, and of epochs with the same, the least divergence from the teacher's logits there.
        subtask: the teacher's classes that are kept; the labels of `images` are in its order.
        images: need no labels. Training images feed the subspaces and the training, validation images choose the epoch.
            Test images are not used.
        pairs: layers to match; None finds them automatically.
        subspaces: by teacher layer, of an earlier run of the same teacher and images; None finds them in a pass.
        folder: for `subspaces.safetensors`, `metrics.jsonl` and the checkpoint. A run that finds its own checkpoint
            there continues after the last finished epoch, and gives the same weights as a run without a stop.
        cache: folder for the teacher's answers when `teacher_cache` is on; None puts them in `folder`. Two runs may
            share it where the teacher's answers are the same for both.
        beside: further teachers, which take the first one's images; their logits are weighed against its own.
        reference: the model that the student is to replace, where `teacher` only stands between the two.
        progress: called several times an epoch.

    Raises:
        UsageError: labels have a weight and no training image has one; further teachers have nothing to say, or other
            classes or sizes of images; or a network cannot take the images, or train on
            such a batch, which is tried before anything else.
        EdgeDistillError: the memory is too small for a batch, the checkpoint is of another run, or the loss is
            not finite (the message names the term).
    """
    keyed = for_student(config or DistillConfig(), student)
    config = with_formats(keyed)
    config.require_labels(len(labelled_rows(images.train)))
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)  # once: a folder that is unmounted later is not made anew
    accelerator = open_accelerator(config)
    lesson = Lesson(teacher=teacher, subtask=subtask, images=images, beside=tuple(beside), reference=reference)
    check_beside(lesson, config)
    with on_device([each.model for each in lesson.teachers], student, config, accelerator):
        _try_batches(lesson, student, config, accelerator)
        matching = match_layers(teacher, student, config, pairs)
        progress = _with_shares(progress, teacher, student, config)
        task = Task(
            lesson=lesson,
            config=config,
            accelerator=accelerator,
            matching=matching,
            fingerprint=fingerprint_of(lesson, student, keyed, matching),
            epochs=config.epoch_count,
            folder=folder,
            cache=cache or (folder / "teacher-cache" if folder else None),
            watch=progress,
            memory=_open_memory(lesson, accelerator),
        )
        task, choice, state = _train_as_set(task, student, subspaces)
    if folder is not None and cache is None and accelerator.is_main_process:
        # The cache is large, and only this run could use it.
        shutil.rmtree(folder / "teacher-cache", ignore_errors=True)
    return DistillResult(
        student=student.cpu().eval(),
        subtask=subtask,
        pairs=task.matching.pairs,
        subspaces=task.matching.subspaces,
        history=state.history,
        best_epoch=state.best_epoch,
        validation_accuracy=state.best_accuracy,
        teacher_validation_accuracy=state.teacher_accuracy,
        lambda_layer=float(task.config.lambda_layer),
        lambda_choice=choice,
        standing=state.standing(images.validation),
        doubted_after=state.doubted_after,
        judged_by=judged_by(images.validation),
        loading=task.memory.to_json(),
    )


def _open_memory(lesson: Lesson, accelerator: Accelerator) -> ImageMemory:
    """Return a memory for the images that all passes read; processes that share them would each keep all of them."""
    if accelerator.num_processes > 1:
        return ImageMemory()
    memory = open_image_memory()
    for images in (lesson.images.train, lesson.images.validation):
        memory.admit(images, lesson.teacher.preprocess)
    return memory


def read_trained(student: nn.Module, folder: Path) -> nn.Module | None:
    """Fill a student with the best weights that `distill` left in its `folder`; None where it left none.

    Raises:
        EdgeDistillError: they cannot be read, or are of another architecture.
    """
    path = folder / "checkpoint" / "state.pt"
    weights = read_best_weights(path)
    if weights is None:
        return None
    try:
        student.load_state_dict(weights)
    except RuntimeError as error:
        raise EdgeDistillError(f"The weights in {path} are of another student; delete it to train anew.") from error
    return student.eval()


def _try_batches(lesson: Lesson, student: nn.Module, config: DistillConfig, accelerator: Accelerator) -> None:
    """Run the teachers on a batch, and train a copy of the student on one of each size that the run will have.

    Nothing that the run uses changes: neither a network nor the state of a random generator.
    """
    teacher, device = lesson.teacher, accelerator.device
    with forked_random_numbers(device), accelerator.autocast():
        learner = copy.deepcopy(student)
        train_with(learner, frozen_statistics=config.batch_norm == FROZEN)
        for place, size in enumerate(
            batch_shares(len(lesson.images.train), config.batch_size, accelerator.num_processes)
        ):
            pixels = torch.randint(0, 256, (size, *teacher.preprocess.size, 3), dtype=torch.uint8)
            for each in lesson.teachers if place == 0 else ():
                images = _prepare(each, pixels, config, device)
                with evaluating(each.model), torch.no_grad():
                    try_network("teacher", each.model, images, config.batch_size)
            images = _prepare(teacher, pixels, config, device)
            try_network("student", learner, images, config.batch_size)


def _prepare(teacher: Teacher, pixels: Tensor, config: DistillConfig, device: torch.device) -> Tensor:
    images: Tensor = teacher.normalise().to(device)(pixels.to(device))
    return images.contiguous(memory_format=memory_format(config))


def _train_as_set(
    task: Task, student: nn.Module, subspaces: Mapping[str, Subspace] | None
) -> tuple[Task, LambdaChoice | None, Outcome]:
    """Find the subspaces and the weight that the settings leave open, train, and return the completed task too."""
    saved = task.read_checkpoint()
    if task.config.layer_loss == "subspace":
        given = find_task_subspaces(task, resumed=saved is not None) if subspaces is None else subspaces
        task = task.with_subspaces(given)
    choice = None
    if task.config.lambda_layer == TUNED:
        choice = _choose_weight(task, student)
        task = replace(task, config=replace(task.config, lambda_layer=choice.lambda_layer))
    return task, choice, _train(task, student, saved)


def _choose_weight(task: Task, student: nn.Module) -> LambdaChoice:
    """Choose lambda_layer by short runs of copies of the student."""

    def run(config: DistillConfig, watch: Watcher) -> Outcome:
        return _train(replace(task, config=config, folder=None, watch=watch), copy.deepcopy(student), None)

    return choose_lambda(
        run,
        task.config,
        fingerprint=task.fingerprint,
        folder=task.folder,
        watch=task.watch,
        judged_by=judged_by(task.lesson.images.validation),
    )


def _train(task: Task, student: nn.Module, saved: Mapping[str, Any] | None) -> Outcome:
    config, lesson, matching = task.config, task.lesson, task.matching
    teacher, device = lesson.teacher, task.accelerator.device
    average = build_average(student, config.ema)
    layers = [pair.student for pair in matching.pairs]
    with (
        capture(student, layers) as outputs,
        _all_evaluating([each.model for each in lesson.teachers]),
        _cache_folder(task) as cache,
        contextlib.ExitStack() as stack,
    ):
        if config.compile_student:
            # Compilation sees the hooks of `capture`, but no hooks that are set later.
            student.compile()
        objective = Objective(student, matching, config, outputs).to(device)
        normalise = teacher.normalise().to(device)
        guidance = TeacherGuidance(
            teacher=teacher,
            class_indices=lesson.subtask.class_indices,
            layers=[pair.teacher for pair in matching.pairs],
            objective=objective,
            normalise=normalise,
            accelerator=task.accelerator,
            temperature=config.temperature,
            beside=tuple(ask_for_logits(each, config, task.accelerator) for each in lesson.beside),
        )
        guidance, augmentation = with_cache(guidance, task, cache, saved["views"] if saved else None)
        feeds = stack.enter_context(contextlib.closing(_open_feeds(task, guidance, augmentation)))
        run = Run(
            accelerator=task.accelerator,
            guidance=guidance,
            judge=ask_for_logits(lesson.judge, config, task.accelerator),
            normalise=normalise_of(student, normalise).to(device),
            images=lesson.images,
            augmentation=augmentation,
            config=config,
            fingerprint=task.fingerprint,
            folder=task.folder,
            watch=task.watch,
            feeds=feeds,
        )
        return train(run, objective, average, saved)


def _with_shares(watch: Watcher, teacher: Teacher, student: nn.Module, config: DistillConfig) -> Watcher:
    if watch is ignore:
        return watch
    own, theirs = (count_cost(each, teacher.preprocess.size).multiply_adds for each in (student, teacher.model))
    return with_shares(watch, training_shares(config, theirs, own))


def _open_feeds(task: Task, guidance: TeacherGuidance, augmentation: Augmentation) -> Feeds:
    accelerator, config, images = task.accelerator, task.config, task.lesson.images
    feed = functools.partial(
        Feed,
        preprocess=guidance.preprocess,
        workers=config.workers,
        passes=config.epoch_count,
        share=Share(index=accelerator.process_index, count=accelerator.num_processes),
        memory=task.memory,
        device=accelerator.device,
    )
    shown = Pass(augmentation=augmentation, shuffle=True, kept=guidance.kept_views)
    return Feeds(
        training=feed(images.train, batch_size=config.batch_size, shown=shown),
        validation=feed(images.validation, batch_size=EVALUATION_BATCH),
    )


@contextlib.contextmanager
def _all_evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for network in networks:
            stack.enter_context(evaluating(network))
        yield


@contextlib.contextmanager
def _cache_folder(task: Task) -> Iterator[Path]:
    """Yield the folder for the teacher's answers: the given one, or a temporary one."""
    if task.cache is not None or task.config.teacher_cache == "off":
        yield task.cache or Path()
        return
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as temporary:
        yield Path(temporary) / "teacher-cache"
