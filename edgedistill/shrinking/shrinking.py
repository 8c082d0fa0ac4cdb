"""From a teacher to a student of its own architecture with fewer channels, which starts from the teacher's weights.

The idea is that of Shleifer & Rush 2020 (arXiv 2010.13002), who copy a part of a summarising teacher and train it on.
They leave layers out; here channels are, in the groups that must go together (Fang et al. 2023, arXiv 2301.12900).
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgedistill.checks import check_choice
from edgedistill.models.libraries.found import Found
from edgedistill.models.start import Start, StartRecord, begin_student
from edgedistill.models.student_names import CHANNEL_CHOICES, require_shrinkable
from edgedistill.models.teacher import Teacher
from edgedistill.shrinking._groups import find_groups, unshrinkable
from edgedistill.shrinking.choosing import Seen, score_channels
from edgedistill.shrinking.shape import NEVER_RECORDED, ShrunkShape
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.images.sets import ImageSet
from edgedistill_deploy.progress import Progress, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrunkStudent:
    """A student with fewer channels than its teacher: the network, what it takes to build it again, and its start."""

    network: nn.Module
    shape: ShrunkShape
    start: StartRecord


def shrink_teacher(
    teacher: Teacher,
    subtask: Subtask,
    images: ImageSet,
    share: float,
    *,
    channels: str = CHANNEL_CHOICES[0],
    start: Start | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ShrunkStudent:
    """Make a student of a teacher by removing channels, in every layer the same share.

    Args:
        teacher: does not change.
        subtask: its classes; their rows of the teacher's head are kept, found by name.
        images: training images, which relevance and Taylor's formula look at; labels are not used.
        share: of the channels that stay, above 0 and below 1; each number is rounded, see `shape.count_kept`. The
            multiply-adds fall to about its square.
        channels: by what they are chosen, one of `CHANNEL_CHOICES`.
        start: of `find_start`, where the student is to start from nothing; None takes the teacher's weights.
        seed: fixes the random choice, the images of a choice, and new weights.
        progress: called after each batch of images that a choice looks at.

    Raises:
        UsageError: the teacher is of a kind that cannot be shrunk.
        MissingDependencyError: torch-pruning is not installed.
        DataError: a choice needs images, and there are none.
    """
    check_choice("channels", channels, CHANNEL_CHOICES)
    from_nothing = start is not None and bool(start.because)
    cut, shape = _shrink(
        teacher,
        share,
        "" if from_nothing else channels,
        Seen(teacher=teacher, subtask=subtask, images=images, seed=seed, progress=progress),
    )
    size = teacher.preprocess.size
    student = shape.build(len(subtask), size, seed)
    begun = start if start is not None and from_nothing else _start_of(teacher, cut, share, channels)
    return ShrunkStudent(
        network=student, shape=shape, start=begin_student(student, begun, teacher.aliases(subtask), size)
    )


def shape_of_shrunk(teacher: Teacher, share: float) -> ShrunkShape:
    """Return what `shrink_teacher` would build, whatever it looked at: the shape does not depend on the choice.

    Raises as `shrink_teacher`.
    """
    return _shrink(teacher, share, "", None)[1]


def _shrink(teacher: Teacher, share: float, by: str, seen: Seen | None) -> tuple[nn.Module, ShrunkShape]:
    """Return a copy of the teacher's network without the channels, and its shape; without `by` the first ones stay."""
    full, architecture, arguments = _network_of(teacher)
    cut, size = copy.deepcopy(full), teacher.preprocess.size
    channels = find_groups(cut, size, _heads(cut))
    if by and seen is not None:
        scores = score_channels(channels, by, seen)
    else:
        scores = [torch.zeros(group.count) for group in channels.groups]
    channels.remove(share, scores, size)
    shape = ShrunkShape.between(full, cut, architecture, arguments, share, by)
    return cut, shape


def _network_of(teacher: Teacher) -> tuple[nn.Module, str, Mapping[str, Any]]:
    """Return a teacher's network of timm, timm's name of it, and the arguments that it was built with.

    Raises:
        UsageError: it is not of timm, takes images in another way, or was built in a way that cannot be told.
    """
    require_shrinkable(teacher.name)
    network: Any = teacher.model
    config = getattr(network, "pretrained_cfg", None)
    if config is None:
        raise unshrinkable(network, "it is no network of timm, or its images are made grey or turned to BGR first")
    given = getattr(network, "_model_args", {}).items()
    try:
        arguments = json.loads(json.dumps({key: value for key, value in given if key not in NEVER_RECORDED}))
    except (TypeError, ValueError) as error:
        raise unshrinkable(network, f"timm built it with settings that no file can hold ({error})") from error
    _require_rebuildable(network, str(config["architecture"]), arguments, teacher.preprocess.size)
    return network, str(config["architecture"]), arguments


def _require_rebuildable(
    network: Any, architecture: str, arguments: Mapping[str, Any], image_size: tuple[int, int]
) -> None:
    """Refuse a network that timm builds in another way from its name and arguments."""
    plain = ShrunkShape(architecture=architecture, arguments=arguments, share=1.0, channels="", layers={}, tensors={})
    try:
        again = plain.build(int(network.num_classes), image_size).state_dict()
    except BundleError as error:
        raise unshrinkable(network, f"timm does not build {architecture} again") from error
    if {name: each.shape for name, each in again.items()} != {
        name: each.shape for name, each in network.state_dict().items()
    }:
        raise unshrinkable(network, f"timm builds another network of the name {architecture}")


def _heads(network: nn.Module) -> list[nn.Module]:
    """Return the layers whose outputs are the classes."""
    config: Any = network.pretrained_cfg
    named = config["classifier"]
    return [network.get_submodule(name) for name in ([named] if isinstance(named, str) else named)]


def _start_of(teacher: Teacher, cut: nn.Module, share: float, channels: str) -> Start:
    found = Found(
        model=cut, preprocess=teacher.preprocess, mean=teacher.mean, std=teacher.std, labels=teacher.class_names
    )
    return Start(weights=f"the teacher, shrunk to {share:g} of its channels by {channels}", found=found)
