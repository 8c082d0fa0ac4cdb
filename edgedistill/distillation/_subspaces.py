"""The subspaces of a training task: found in one pass over this process's images, or read from a resumed run."""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping

from accelerate.utils import broadcast_object_list
from torch import Tensor

from edgedistill.compute.accelerator import memory_format
from edgedistill.config import CHOSEN
from edgedistill.data.feeding import Feed
from edgedistill.data.sampling import sample_images
from edgedistill.distillation._task import Task
from edgedistill.distillation.training import EVALUATION_BATCH
from edgedistill.inspection.choosing import IMAGES, choose_methods
from edgedistill.networks.modes import evaluating
from edgedistill.subspaces.directions import Subspace, subspace_from
from edgedistill.subspaces.files import load_subspaces, save_subspaces
from edgedistill.subspaces.finding import Sampling, gather_moments
from edgedistill.subspaces.moments import Moments
from edgedistill_deploy.images.sets import ImageSet


def find_task_subspaces(task: Task, *, resumed: bool) -> dict[str, Subspace]:
    """Find the subspaces of all teacher layers in one pass, or read them from the run that is resumed."""
    if not task.matching.pairs:
        return {}
    path = task.folder / "subspaces.safetensors" if task.folder else None
    if path is not None and resumed and path.is_file():
        return load_subspaces(path)
    config = task.config
    shapes = {pair.teacher: task.matching.student_shapes[pair.student] for pair in task.matching.pairs}
    ranks = {name: shape[0] for name, shape in shapes.items()}
    moments = gather_moments(
        task.lesson.teacher.model,
        task.lesson.subtask.class_indices,
        _own_share(task),
        tuple(ranks),
        Sampling(
            map_sizes={name: shape[1:] for name, shape in shapes.items()},
            positions=config.positions or None,
            seed=config.seed,
        ),
    )
    methods = _choose_methods(task, moments, ranks)
    subspaces = {
        name: subspace_from(moments[name], rank, layer=name, method=methods[name], seed=config.seed)
        for name, rank in ranks.items()
    }
    if path is not None and task.accelerator.is_main_process:
        save_subspaces(path, subspaces)
    return subspaces


def _choose_methods(task: Task, moments: Mapping[str, Moments], ranks: Mapping[str, int]) -> dict[str, str]:
    """Return the method for each layer's subspace: from the settings, or chosen on validation images."""
    if task.config.method != CHOSEN:
        return dict.fromkeys(ranks, task.config.method)
    teacher = task.lesson.teacher.model
    images = sample_images(task.lesson.images.validation, IMAGES, task.config.seed)
    with evaluating(teacher):
        chosen = choose_methods(
            teacher,
            task.lesson.subtask.class_indices,
            functools.partial(_batches, task, images, EVALUATION_BATCH),
            moments,
            ranks,
            task.reporter("subspaces"),
        )
    # Rounding may differ between devices, but all processes need the same subspaces.
    return dict(broadcast_object_list([chosen])[0])


def _own_share(task: Task) -> Iterator[Tensor]:
    """Yield this process's share of the training images, in batches of normalised images (n, 3, H, W)."""
    images, batch_size = task.lesson.images.train, task.config.batch_size
    processes, share = task.accelerator.num_processes, images
    if processes > 1:  # a sampler would make the shares equal and count some images twice
        share = images.select(range(task.accelerator.process_index, len(images), processes))
    report, steps = task.reporter("subspaces"), math.ceil(len(share) / batch_size)
    for step, (batch, _) in enumerate(_batches(task, share, batch_size)):
        yield batch
        report(step + 1, steps)


def _batches(task: Task, images: ImageSet, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalised images (n, 3, H, W) and their labels (n,), on the device."""
    teacher, device = task.lesson.teacher, task.accelerator.device
    normalise = teacher.normalise().to(device)
    feed = Feed(images, teacher.preprocess, batch_size, workers=task.config.workers, memory=task.memory, device=device)
    with contextlib.closing(feed):
        for pixels, labels, _ in feed.batches():
            batch = normalise(pixels).contiguous(memory_format=memory_format(task.config))
            yield batch, labels.to(device, non_blocking=True)
