"""Explaining the students of a comparison: each beside its teacher, whose maps are made once for all of them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.comparison.jobs import Job
from edgedistill.comparison.reasons.jobs import EXPLAIN, deciding_settings
from edgedistill.comparison.results import Record
from edgedistill.compute.device import find_device, staying_on
from edgedistill.data.loader import open_loader
from edgedistill.data.sampling import sample_evenly
from edgedistill.explanation.agreement import MEASURES, compare_maps
from edgedistill.explanation.attribution import choose_method
from edgedistill.explanation.config import ExplainConfig
from edgedistill.explanation.explaining import Asked, ask_student, ask_teacher
from edgedistill.models.teacher import Teacher
from edgedistill.networks.modes import evaluating
from edgedistill_deploy.images.sets import ImageSet

# Tasks whose teacher's maps are kept; jobs of a task follow one another.
_KEPT = 2
# Sets the floors' students apart from those that a training began with, whose seeds are small.
_APART = 1_000_003

Share = Callable[[float], None]
Maps = NDArray[np.float32]


def floor_seed(seed: int) -> int:
    """Return the seed of the random weights that a comparison's seed has as a floor; no training begins with them."""
    return seed + _APART


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherMaps:
    """What a teacher's answers rest on, on a sample of validation images.

    Attributes:
        method: of attribution.
        pixels: the prepared images (N, H, W, 3), uint8.
        targets: the class of the subtask that the teacher sees in each (N,).
        own: its maps for these classes (N, H, W).
        other_class: agreement of these maps with the teacher's own for the class that it sees second; None where there
            are two classes, since what speaks for one speaks against the other.
    """

    method: str
    pixels: Tensor
    targets: Tensor
    own: Maps
    other_class: dict[str, float] | None


class Explainer:
    """Explains the students of jobs beside their teachers."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], TeacherMaps] = {}

    def floors(self, job: Job, teacher: Teacher, images: ImageSet, student: nn.Module, share: Share) -> Record:
        """Return the record of a task's floors: the teacher for another class, and a student of random weights."""
        maps, agreement = self._explain(job, teacher, images, student, share)
        assert job.explain is not None
        return {
            "asked": deciding_settings(job.explain),
            "attribution": maps.method,
            "images": len(maps.pixels),
            "other_class": maps.other_class,
            "random_student": agreement,
        }

    def student(self, job: Job, teacher: Teacher, images: ImageSet, student: nn.Module, share: Share) -> Record:
        """Return the record of a student: how far its maps agree with the teacher's, for the class that it sees."""
        maps, agreement = self._explain(job, teacher, images, student, share)
        return {"trained": job.trained, "attribution": maps.method, "images": len(maps.pixels), "reasons": agreement}

    def _explain(
        self, job: Job, teacher: Teacher, images: ImageSet, student: nn.Module, share: Share
    ) -> tuple[TeacherMaps, dict[str, float]]:
        config = job.explain
        assert config is not None
        device = find_device(job.config.compute)
        with _explained_on(device, teacher.model, student):
            asked = ask_student(student, teacher, device)
            maps = self._teacher_maps(job, teacher, images, asked, device, lambda done: share(done / 2))
            return maps, _agreement(asked, maps, config, device, lambda done: share((1 + done) / 2))

    def _teacher_maps(
        self, job: Job, teacher: Teacher, images: ImageSet, student: Asked, device: torch.device, share: Share
    ) -> TeacherMaps:
        assert job.explain is not None
        asked = ask_teacher(teacher, teacher.subtask(job.task.classes), device)
        sample = sample_evenly(images, job.explain.images, job.explain.seed)
        # The floors found the method for all students of the task, whose architecture is the same.
        chosen = job.kind == EXPLAIN
        method = job.explain.method if chosen else _choose((asked, student), teacher, sample, job.explain, device)
        key = (job.task.name, job.validation_images, replace(job.explain, method=method))
        if key not in self._kept:
            self._kept[key] = _explain_teacher(asked, teacher, sample, job.explain, method, device, share)
            for old in list(self._kept)[:-_KEPT]:
                del self._kept[old]
        return self._kept[key]


@contextlib.contextmanager
def _explained_on(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    with contextlib.ExitStack() as stays:
        for network in networks:
            stays.enter_context(staying_on(network, device))
            stays.enter_context(evaluating(network))
        yield


def _choose(
    asked: tuple[Asked, Asked], teacher: Teacher, sample: ImageSet, config: ExplainConfig, device: torch.device
) -> str:
    pixels = torch.from_numpy(np.array(teacher.preprocess.apply(sample.read(0))))[None].to(device)
    return choose_method(config.method, [(each.network, each.normalise(pixels), each.classes) for each in asked])


def _explain_teacher(
    asked: Asked,
    teacher: Teacher,
    sample: ImageSet,
    config: ExplainConfig,
    method: str,
    device: torch.device,
    share: Share,
) -> TeacherMaps:
    kept: list[Tensor] = []
    targets: list[Tensor] = []
    maps: list[Maps] = []
    others: list[dict[str, float]] = []
    for pixels, *_ in open_loader(sample, teacher.preprocess, config.batch_size):
        shown = pixels.to(device)
        with torch.no_grad():
            ranked = asked.logits(shown).argsort(dim=1, descending=True, stable=True)
        own = asked.map(shown, ranked[:, 0], method, config.steps)
        if ranked.shape[1] > 2:
            other = asked.map(shown, ranked[:, 1], method, config.steps)
            others.extend(compare_maps(one, two) for one, two in zip(own, other, strict=True))
        kept.append(pixels)
        targets.append(ranked[:, 0].cpu())
        maps.append(own.astype(np.float32))
        share(sum(map(len, kept)) / len(sample))
    return TeacherMaps(
        method=method,
        pixels=torch.cat(kept),
        targets=torch.cat(targets),
        own=np.concatenate(maps),
        other_class=_mean_of(others) if others else None,
    )


def _agreement(
    asked: Asked, maps: TeacherMaps, config: ExplainConfig, device: torch.device, share: Share
) -> dict[str, float]:
    """Return the mean agreement of a student's maps with the teacher's, by each measure."""
    found: list[dict[str, float]] = []
    for start in range(0, len(maps.pixels), config.batch_size):
        rows = slice(start, start + config.batch_size)
        own = asked.map(maps.pixels[rows].to(device), maps.targets[rows].to(device), maps.method, config.steps)
        pairs = zip(maps.own[rows].astype(np.float64), own, strict=True)
        found.extend(compare_maps(one, two) for one, two in pairs)
        share(len(found) / len(maps.pixels))
    return _mean_of(found)


def _mean_of(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([each[name] for each in found])) for name in MEASURES}
