"""The teacher in training: asked at every step, or once for a fixed set of views, with the answers kept on disk."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.compute.accelerator import memory_format
from edgedistill.compute.parts import answer_in_parts, parts_of
from edgedistill.config import DistillConfig
from edgedistill.data.feeding import Feed
from edgedistill.data.loader import Augmentation, Pass, open_loader
from edgedistill.distillation._task import Task
from edgedistill.distillation.lesson import Guide
from edgedistill.distillation.objective import Guidance, Objective
from edgedistill.distillation.teacher_cache import (
    Answers,
    TeacherCache,
    bytes_per_view,
    choose_views,
    open_teacher_cache,
    write_teacher_cache,
)
from edgedistill.losses.several_teachers import mix_teachers
from edgedistill.models.teacher import Teacher
from edgedistill.networks.layers import as_map, capture
from edgedistill.networks.logits import ClassIndices, restrict_logits
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.images.preprocess import Preprocess
from edgedistill_deploy.images.sets import ImageSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A teacher on the device of the training that is asked for its logits alone.

    It gets images in its own pixel values, and `class_indices` are its outputs of the subtask.
    """

    model: nn.Module
    class_indices: ClassIndices
    normalise: nn.Module
    layout: torch.memory_format

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return the subtask's logits (N, C) for uint8 images (N, H, W, 3)."""
        return answer_in_parts(self._answer, pixels)

    def _answer(self, pixels: Tensor) -> Tensor:
        images = self.normalise(pixels).contiguous(memory_format=self.layout)
        return restrict_logits(self.model(images), self.class_indices)


def ask_for_logits(guide: Guide, config: DistillConfig, accelerator: Accelerator) -> Asked:
    """Return a guide, whose network is on the device already, as it is asked in training."""
    return Asked(
        model=guide.teacher.model,
        class_indices=guide.subtask.class_indices,
        normalise=guide.teacher.normalise().to(accelerator.device),
        layout=memory_format(config),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherGuidance:
    """Gives what the objective needs of the teacher, from the teacher itself or from its cache.

    `layers` are the teacher layers that the objective compares; `class_indices` are the outputs of the subtask, as
    for `restrict_logits`. The logits of the teachers `beside` it are weighed against its own.
    """

    teacher: Teacher
    class_indices: ClassIndices
    layers: Sequence[str]
    objective: Objective
    normalise: nn.Module
    accelerator: Accelerator
    temperature: float
    beside: tuple[Asked, ...] = ()
    cache: TeacherCache | None = None

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of every image."""
        return self.teacher.preprocess

    @property
    def kept_views(self) -> NDArray[np.uint8] | None:
        """The prepared views of the cache (views, images, H, W, 3); None without a cache."""
        return None if self.cache is None else self.cache.pixels

    def logits(self, images: Tensor) -> Tensor:
        """Return the subtask's logits (N, C) of normalised images (N, 3, H, W)."""
        return restrict_logits(self.teacher.model(images), self.class_indices)

    def of(self, images: Tensor, pixels: Tensor, labels: Tensor, view: int, indices: Tensor) -> Guidance:
        """Return the guidance for one view of the training images at `indices`, which are on the host.

        The others are as for `ask`.
        """
        if self.cache is not None:
            return self.cache.guidance(view, indices, images.device)
        if not self.objective.asks_teacher:
            return Guidance(logits=images.new_empty(0), targets={})
        return self.ask(images, pixels, labels)

    @torch.no_grad()
    def ask(self, images: Tensor, pixels: Tensor, labels: Tensor) -> Guidance:
        """Run the teacher, and those beside it, on a batch.

        Args:
            images: normalised for the teacher (N, 3, H, W).
            pixels: the same as uint8 (N, H, W, 3), for the teachers beside it.
            labels: as for `weigh_teachers`; of no matter to a single teacher.
        """
        with self.accelerator.autocast():
            answers = [self._answer(part) for part in parts_of(images)]
            logits = _joined([logits for logits, _ in answers])
            maps = {name: _joined([maps[name] for _, maps in answers]) for name in self.layers}
            others = [each.logits(pixels) for each in self.beside]
        if others:
            logits = mix_teachers([logits, *others], labels, self.temperature)
        return Guidance(logits=logits.float(), targets=self.objective.targets(maps))

    def _answer(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits (n, C) of a part of a batch, and the maps of the layers (n, D, H, W)."""
        model = self.teacher.model
        with capture(model, self.layers) as outputs:
            logits = self.logits(images)
            return logits, {name: as_map(outputs[name], model, name) for name in self.layers}


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def with_cache(
    guidance: TeacherGuidance, task: Task, folder: Path, views: int | None
) -> tuple[TeacherGuidance, Augmentation]:
    """Keep the teacher's answers on disk, where the settings ask for it and there is room.

    The guidance gets the cache, and the augmentation is limited to the cached views. Both stay unchanged without a
    cache. A short run that chooses a weight shows the same views as the whole run. `views` is the number that an
    interrupted run had chosen; None chooses now.

    Raises:
        EdgeDistillError: there is no room for the requested views, or the folder holds another cache.
    """
    config, images = task.config, task.lesson.images.train
    augmentation = Augmentation(name=config.augment, seed=config.seed, mixup=config.mixup or 0.0)
    if config.teacher_cache == "off":
        return guidance, augmentation
    view_bytes = bytes_per_view(_example(guidance, images), guidance.preprocess.size)
    if views is None:
        chosen = choose_views(config.teacher_cache, view_bytes, len(images), task.epochs, folder)
        # Processes may find different free space on the disk.
        views = int(broadcast_object_list([chosen])[0])
    if views == 0:
        return guidance, augmentation
    limited = replace(augmentation, views=views)
    key = {**task.cache_key(), "augmentation": limited.name, "seed": limited.seed, "views": views}
    key["precision"] = config.mixed_precision
    key |= {"mixup": limited.mixup} if limited.mixup else {}
    if guidance.accelerator.is_main_process and open_teacher_cache(folder, key) is None:
        report = task.reporter("teacher-cache", cache_bytes=views * len(images) * view_bytes)
        report(0, views * len(images))
        feed = _feed(guidance, task, limited)
        answers = ((view, _answers(guidance, task, limited, view, feed)) for view in range(views))
        parameters = {view: _parameters(guidance.preprocess.size, limited, view, len(images)) for view in range(views)}
        with contextlib.closing(feed):
            write_teacher_cache(folder, key, len(images), answers, parameters, report)
    task.memory.release(images, guidance.preprocess)  # the cache has their views
    guidance.accelerator.wait_for_everyone()
    cache = open_teacher_cache(folder, key)
    if cache is None:
        raise EdgeDistillError(
            f"The teacher cache that the first process wrote is not in {folder}; give all processes the same folder."
        )
    return replace(guidance, cache=cache), limited


def _example(guidance: TeacherGuidance, images: ImageSet) -> Guidance:
    pixels, labels, _ = next(iter(open_loader(images.select([0]), guidance.preprocess, 1)))
    pixels = pixels.to(guidance.accelerator.device)
    return guidance.ask(guidance.normalise(pixels), pixels, labels)


def _feed(guidance: TeacherGuidance, task: Task, augmentation: Augmentation) -> Feed:
    return Feed(
        task.lesson.images.train,
        guidance.preprocess,
        task.config.batch_size,
        Pass(augmentation=augmentation),
        workers=task.config.workers,
        passes=augmentation.views,
        memory=task.memory,
        device=guidance.accelerator.device,
    )


def _answers(
    guidance: TeacherGuidance, task: Task, augmentation: Augmentation, view: int, feed: Feed
) -> Iterator[Answers]:
    """Ask the teacher about one view of all training images, batch by batch."""
    train = task.lesson.images.train
    for pixels, labels, indices in feed.batches(view):
        if augmentation.mixup and guidance.beside:
            labels = augmentation.mix_labels(view, indices, train.labels, len(train.class_names))
        labels = labels.to(pixels.device, non_blocking=True)
        yield Answers(indices=indices, pixels=pixels, guidance=guidance.ask(guidance.normalise(pixels), pixels, labels))


def _parameters(size: tuple[int, int], augmentation: Augmentation, view: int, count: int) -> NDArray[np.int16]:
    return np.array([augmentation.view(size, view, index).numbers() for index in range(count)], dtype=np.int16)
