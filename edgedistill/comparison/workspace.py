"""Doing jobs: train a student, or test one or the teacher; teacher and images are loaded once for all jobs."""

import copy
import functools
import platform
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill.comparison.jobs import Job
from edgedistill.comparison.plan import Task, task_images
from edgedistill.comparison.reasons.explaining import Explainer, floor_seed
from edgedistill.comparison.results import CACHES, STUDENTS, Record
from edgedistill.comparison.shelf import Shelf
from edgedistill.comparison.subsets import draw_training_images
from edgedistill.comparison.testing import measure_answers
from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.events import TrainingProgress
from edgedistill.distillation.subdistill import DistillResult, distill
from edgedistill.distillation.training import predict_classes, true_classes
from edgedistill.models.normalise import share_own_pixels
from edgedistill.models.start import StartRecord, begin_student, find_start
from edgedistill.models.student import build_student, read_student, write_student
from edgedistill.models.student_names import CHANNEL_CHOICES, is_shrunk, shrunk_share
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.shrinking.shrinking import ShrunkStudent, shape_of_shrunk, shrink_teacher
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.hardware.device import read_device
from edgedistill_deploy.images.sets import ImageSet


class Workspace:
    """Does jobs one after another and writes trained students to `folder`/students/KEY.safetensors."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._students = folder / STUDENTS
        self._shelf = Shelf(folder / CACHES)
        self._where = {"machine": read_device().name, "versions": _versions()}
        self._open = functools.lru_cache(maxsize=4)(open_source)
        self._start = functools.lru_cache(maxsize=2)(find_start)
        self._teacher = functools.lru_cache(maxsize=2)(_load_teacher)
        self._images: dict[tuple[str, int | None], SubtaskImages] = {}
        self._drawn: dict[tuple[str, int | None, int], ImageSet] = {}
        self._made: dict[tuple[str, int | None, int], ShrunkStudent] = {}
        self._truths: dict[str, NDArray[np.int64]] = {}
        self._explainer = Explainer()

    def close(self) -> None:
        """Delete the caches, which no later run needs."""
        self._shelf.close()

    def do(self, job: Job, share: Callable[[float], None]) -> Record:
        """Do a job and return its record, which has a failure of any kind as `error`.

        `share` is called from time to time with the share of the job that is done, from 0 to 1.
        """
        started = time.monotonic()
        try:
            outcome = self._do(job, share)
        except EdgeDistillError as error:
            outcome = {"error": str(error), "wrong_usage": isinstance(error, UsageError)}
        except Exception as error:  # noqa: BLE001  # a library may raise anything, and the other runs go on
            outcome = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        return {**_identify(job), **outcome, "seconds": round(time.monotonic() - started, 3), **self._where}

    def _do(self, job: Job, share: Callable[[float], None]) -> Record:
        teacher = self._teacher_of(job.task)
        images = self._images_of(job)
        if job.kind == "train":
            return self._train(job, teacher, images, share)
        if job.kind == "begin":
            return self._begin(job, teacher, images)
        if job.kind == "floors":
            return self._explainer.floors(job, teacher, images.validation, self._random(job, teacher), share)
        if job.kind == "explain":
            return self._explainer.student(job, teacher, images.validation, self._trained(job, teacher), share)
        truth = self._truth(job, teacher, images)
        if job.kind == "teacher":
            self._student(job, teacher)  # finds a misspelt name before the first training
            classes = teacher.subtask(job.task.classes).class_indices
            return measure_answers(teacher.model, teacher, images.evaluation, truth, classes)
        student = self._trained(job, teacher)
        return {"trained": job.trained, **measure_answers(student, teacher, images.evaluation, truth)}

    def _trained(self, job: Job, teacher: Teacher) -> nn.Module:
        """Return the student that a job judges or explains."""
        return read_student(self._student(job, teacher)[0], self._students / f"{job.trained}.safetensors")

    def _random(self, job: Job, teacher: Teacher) -> nn.Module:
        """Return a student of random weights that no training begins with; it takes pixels as the others do."""
        task, size, seed = job.task, teacher.preprocess.size, floor_seed(job.seed)
        started, count = self._student(job, teacher)[0], len(job.task.classes)
        if is_shrunk(task.student):
            student = shape_of_shrunk(teacher, shrunk_share(task.student)).build(count, size, seed)
        else:
            student = build_student(task.student, count, width=task.student_width, image_size=size, seed=seed)
        share_own_pixels(student, started)
        return student

    def _truth(self, job: Job, teacher: Teacher, images: SubtaskImages) -> NDArray[np.int64]:
        """Return the labels of the test images, with the teacher's answers for those that have none."""
        name = job.task.name
        if name not in self._truths:
            self._truths[name] = true_classes(teacher, teacher.subtask(job.task.classes), images.evaluation)
        return self._truths[name]

    def _begin(self, job: Job, teacher: Teacher, images: SubtaskImages) -> Record:
        """Keep the student as it starts, where its trained head has all classes; else say why it is not judged."""
        student, start = self._student(job, teacher)
        if because := start.find_headless():
            return {"absent": because}
        write_student(student, self._students / f"{job.key}.safetensors", self._folder)
        predicted = predict_classes(student, teacher, images.validation)
        truth = true_classes(teacher, teacher.subtask(job.task.classes), images.validation)
        return {
            "validation_accuracy": float((predicted == truth).mean()),
            "best_epoch": 0,
            "epochs": 0,
            "stuck": len(job.task.classes) - len(set(predicted.tolist())),
        }

    def _train(self, job: Job, teacher: Teacher, images: SubtaskImages, share: Callable[[float], None]) -> Record:
        # Training gets no test images, so it cannot use them by mistake.
        drawn = SubtaskImages(train=self._drawn_of(job), validation=images.validation, test=None)
        result = distill(
            teacher,
            self._student(job, teacher)[0],
            teacher.subtask(job.task.classes),
            drawn,
            job.config,
            cache=self._shelf.place_for(job),
            progress=lambda at: share(_share_done(at)),
        )
        write_student(result.student, self._students / f"{job.key}.safetensors", self._folder)
        return {"train_images": len(drawn.train), **_describe_training(result, teacher, drawn)}

    def _student(self, job: Job, teacher: Teacher) -> tuple[nn.Module, StartRecord]:
        task, size = job.task, teacher.preprocess.size
        if is_shrunk(task.student):
            return self._shrunk(job, teacher)
        student = build_student(
            task.student, len(task.classes), width=task.student_width, image_size=size, seed=job.seed
        )
        start = self._start(task.student, task.student_weights, task.student_width)
        return student, begin_student(student, start, teacher.aliases(teacher.subtask(task.classes)), size)

    def _shrunk(self, job: Job, teacher: Teacher) -> tuple[nn.Module, StartRecord]:
        """Return the shrunk teacher as it starts, from the job's training images; for a test its shape will do."""
        task, share = job.task, shrunk_share(job.task.student)
        if job.kind not in ("train", "begin"):
            shape = shape_of_shrunk(teacher, share)
            return shape.build(len(task.classes), teacher.preprocess.size), StartRecord()
        key = (task.name, job.size, job.seed)
        if key not in self._made:
            self._made[key] = shrink_teacher(
                teacher,
                teacher.subtask(task.classes),
                self._drawn_of(job),
                share,
                channels=task.student_channels or CHANNEL_CHOICES[0],
                start=find_start(task.student, task.student_weights),
                seed=job.seed,
            )
        return copy.deepcopy(self._made[key].network), self._made[key].start

    def _drawn_of(self, job: Job) -> ImageSet:
        """Return the training images of a job's size and seed."""
        key = (job.task.name, job.size, job.seed)
        if key not in self._drawn:
            self._drawn[key] = draw_training_images(self._images_of(job).train, job.size, job.seed)
        return self._drawn[key]

    def _teacher_of(self, task: Task) -> Teacher:
        files = (task.teacher_weights, task.teacher_classes)
        return self._teacher(task.teacher, *files, task.image_size, task.teacher_pixels, task.allow_code)

    def _images_of(self, job: Job) -> SubtaskImages:
        key = (job.task.name, job.validation_images)
        if key not in self._images:
            self._images[key] = task_images(job.task, job.validation_images, self._open)
        return self._images[key]


@contextmanager
def open_workspace(folder: Path, threads: int) -> Iterator[Workspace]:
    """Open a workspace; torch computes with `threads` threads inside the block, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with closing(Workspace(folder)) as workspace:
            yield workspace
    finally:
        torch.set_num_threads(before)


def _load_teacher(name: str, weights: str, classes: str, image_size: int, pixels: str, allow_code: bool) -> Teacher:
    return load_teacher(
        name,
        weights=Path(weights) if weights else None,
        classes=Path(classes) if classes else None,
        image_size=image_size or None,
        pixels=pixels,
        allow_code=allow_code,
    )


def _share_done(at: TrainingProgress) -> float:
    if at.phase not in ("training", "validation"):
        return 0.0
    return (at.epoch + (at.step / at.steps if at.phase == "training" else 1.0)) / at.epochs


def _describe_training(result: DistillResult, teacher: Teacher, images: SubtaskImages) -> Record:
    predicted = predict_classes(result.student, teacher, images.validation)
    return {
        "validation_accuracy": result.validation_accuracy,
        "teacher_validation_accuracy": result.teacher_validation_accuracy,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "final_loss": result.history[-1].loss,
        "stuck": len(result.subtask) - len(set(predicted.tolist())),
    }


def _identify(job: Job) -> Record:
    record: Record = {"key": job.key, "kind": job.kind, "task": job.task.name}
    if job.kind == "teacher":
        return record
    if job.kind == "floors":
        return {**record, "seed": job.seed}
    trained: Record = {"method": job.method, "train_size": job.size, "seed": job.seed}
    return {**record, **trained, "lambda_layer": job.config.lambda_layer}


def _versions() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("edgedistill", "torch", "timm", "numpy")},
    }
