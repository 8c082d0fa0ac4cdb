"""The teacher: a trained classifier with its labels, its preprocessing and its normalisation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedistill.models.libraries.forms import refuse_features, require_code_allowed
from edgedistill.models.libraries.found import Found
from edgedistill.models.libraries.inputs import FlippedInput, GreyInput
from edgedistill.models.libraries.messages import first_line
from edgedistill.models.libraries.own_code import call_function
from edgedistill.models.libraries.timm_models import describe_timm_model, load_from_timm, load_from_timm_folder
from edgedistill.models.libraries.torchvision_models import load_from_torchvision
from edgedistill.models.libraries.transformers_models import load_from_transformers
from edgedistill.models.names import split_teacher_name
from edgedistill.models.normalise import Normalise
from edgedistill.models.pixels import find_pixels
from edgedistill.models.start import ClassAliases, GroupAliases
from edgedistill.models.teacher_files import is_of_transformers, read_labels, require_labels, teacher_folder
from edgedistill.networks.digest import weights_digest
from edgedistill.networks.modes import evaluating
from edgedistill.subtasks.subtask import Subtask, find_subtask
from edgedistill_deploy.classes.groups import WantedClass
from edgedistill_deploy.errors import DataError, UsageError
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.images.preprocess import Preprocess


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A classifier in evaluation mode, with its labels and preprocessing.

    `model` takes normalised RGB images (N, 3, H, W) and returns logits (N, classes). `mean` and `std` are per channel,
    of images in [0, 1]. `weights_sha256` is the hash of the weights' file, or of the weights themselves where code made
    them; it is empty for weights that a library fetched. `notes` are sentences for the user about how the weights were
    read. `pixels` is one of `pixels.PIXELS`, or empty for the model's own values.
    """

    name: str
    model: nn.Module
    class_names: tuple[str, ...]
    preprocess: Preprocess
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weights_sha256: str = ""
    notes: tuple[str, ...] = ()
    pixels: str = ""

    def subtask(self, class_names: Sequence[WantedClass], name: str = "subtask") -> Subtask:
        """Look up some of this teacher's classes by name, alone or in groups, as `find_subtask` does."""
        return find_subtask(self.class_names, class_names, name=name)

    def aliases(self, subtask: Subtask) -> list[ClassAliases]:
        """Return two names for each class of a subtask, or member of a group: its own, and this teacher's label."""
        names = subtask.member_names or tuple((name,) for name in subtask.class_names)
        members = [
            tuple((own, self.class_names[index]) for own, index in zip(called, indices, strict=True))
            for called, indices in zip(names, subtask.members, strict=True)
        ]
        return [
            pairs[0] if isinstance(index, int) else GroupAliases(own=name, members=pairs)
            for name, index, pairs in zip(subtask.class_names, subtask.class_indices, members, strict=True)
        ]

    def normalise(self) -> Normalise:
        """Return the module that turns uint8 images into this teacher's input."""
        return Normalise(self.mean, self.std)


def load_teacher(
    name: str,
    *,
    weights: Path | None = None,
    classes: Path | None = None,
    image_size: int | None = None,
    pixels: str = "",
    allow_code: bool = False,
) -> Teacher:
    """Load a teacher with its labels and preprocessing, and try it on one image of zeros.

    Args:
        name: `timm:NAME`, `timm:hf-hub:OWNER/NAME`, `torchvision:NAME[:WEIGHTS]`, `transformers:OWNER/NAME`, a folder
            in the layout of timm or of transformers, `embedded:glyphs100`, or `python:MODULE:FUNCTION`, a function that
            returns a `Teacher` or a module.
        weights: a safetensors file or a state dict, read without unpickling code; for `timm:NAME` and
            `torchvision:NAME` it replaces the pretrained weights that the library fetches.
        classes: a text file with one label a line, in output order; needed where the model has no labels.
        image_size: the side of the square images that replaces the model's own.
        pixels: one of `pixels.PIXELS`, which replaces the model's own normalisation; empty for its own.
        allow_code: the function of `python:MODULE:FUNCTION` may be run.

    Raises:
        UsageError: no such model, different numbers of labels and outputs, code that is not allowed to run.
        DataError: the weights cannot be read, do not fit or cannot be fetched, or the model cannot take such images.
        MissingDependencyError: transformers is not installed.
    """
    kind, rest = split_teacher_name(name)
    if weights is not None and kind not in ("timm", "torchvision"):
        raise UsageError(
            f"--teacher-weights goes with --teacher timm:NAME or torchvision:NAME; {name} carries its own weights."
        )
    labels = read_labels(classes) if classes is not None else None
    if kind == "python":
        made = _make_from_code(name, rest, image_size, allow_code)
    else:
        made = _load(kind, rest, weights, image_size)
    teacher = _finish_made(made, name, labels) if isinstance(made, Teacher) else _finish(name, made, labels)
    if kind == "python":
        teacher = replace(teacher, weights_sha256=weights_digest(teacher.model))
    return with_pixels(teacher, pixels) if pixels else teacher


def with_pixels(teacher: Teacher, pixels: str) -> Teacher:
    """Return the same teacher with other pixel values, one of `pixels.PIXELS`; its network is shared."""
    chosen = find_pixels(pixels)
    model = teacher.model
    if isinstance(model, GreyInput):
        mean, std = _even(chosen.mean), _even(chosen.std)
    else:
        network = model.network if isinstance(model, FlippedInput) else model
        model = FlippedInput(network).eval() if chosen.flips_colours else network
        mean, std = _three(chosen.mean), _three(chosen.std)
    return replace(teacher, model=model, mean=mean, std=std, pixels=pixels)


def _load(kind: str, rest: str, weights: Path | None, image_size: int | None) -> Found:
    if kind == "timm":
        found = load_from_timm(rest, weights, image_size)
        if not getattr(found.model, "num_classes", None):
            refuse_features(f"timm:{rest}")
        return found
    if kind == "torchvision":
        return load_from_torchvision(rest, weights, image_size)
    if kind == "transformers":
        return load_from_transformers(rest, image_size)
    folder = teacher_folder(kind, rest)
    if is_of_transformers(folder):
        return load_from_transformers(str(folder), image_size)
    return load_from_timm_folder(folder, image_size)


def _make_from_code(name: str, target: str, image_size: int | None, allowed: bool) -> "Teacher | Found":
    require_code_allowed(name, allowed)
    made = call_function(target)
    if isinstance(made, Teacher):
        return made
    if not isinstance(made, nn.Module):
        raise DataError(
            f"{name} returned {type(made).__name__}; it must return an edgedistill.Teacher or a torch module."
        )
    if not hasattr(made, "pretrained_cfg"):
        raise UsageError(
            f"The module that {name} returned does not say how images are prepared for it; return an "
            "edgedistill.Teacher, or give the module timm's pretrained_cfg."
        )
    return describe_timm_model(made, image_size)


def _finish(name: str, found: Found, labels: tuple[str, ...] | None) -> Teacher:
    """Adapt the model to RGB images, and check it and its labels by one image of zeros."""
    mean, std = _three(found.mean), _three(found.std)
    if found.channels == 1:
        mean, std = _even(mean), _even(std)
    model = _on_rgb(name, found).float().eval()
    return Teacher(
        name=name,
        model=model,
        class_names=require_labels(name, _count_outputs(name, model, found.preprocess), labels or found.labels),
        preprocess=found.preprocess,
        mean=mean,
        std=std,
        weights_sha256=sha256_of_file(found.origin) if found.origin is not None else "",
        notes=found.notes,
    )


def _finish_made(made: Teacher, name: str, labels: tuple[str, ...] | None) -> Teacher:
    model = made.model.float().eval()
    outputs = _count_outputs(name, model, made.preprocess)
    return replace(made, name=name, model=model, class_names=require_labels(name, outputs, labels or made.class_names))


def _on_rgb(name: str, found: Found) -> nn.Module:
    if found.channels == 1:
        return GreyInput(found.model)
    if found.channels != 3:
        raise UsageError(
            f"The teacher {name} takes images of {found.channels} channels; EdgeDistill has colour images, of 3, and "
            "can make them grey, of 1."
        )
    return FlippedInput(found.model) if found.flips_colours else found.model


def _count_outputs(name: str, model: nn.Module, preprocess: Preprocess) -> int:
    """Run the model on one image of zeros and return its number of outputs."""
    height, width = preprocess.size
    try:
        with evaluating(model), torch.no_grad():
            output = model(torch.zeros(1, 3, height, width))
    except Exception as error:  # whatever a network raises for images that it cannot take
        raise DataError(
            f"The teacher {name} cannot take images of {height} x {width} pixels ({first_line(error)}); choose another "
            "--image-size."
        ) from error
    if not isinstance(output, Tensor) or output.ndim != 2:
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise DataError(
            f"The teacher {name} must return logits of shape (images, classes), and for one image it returned {given}."
        )
    return int(output.shape[1])


def _even(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of three numbers, three times: the grey of normalised colours needs the same for each."""
    return _three([sum(values) / len(values)])


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    numbers = [float(value) for value in values]
    red, green, blue = numbers * 3 if len(numbers) == 1 else numbers
    return red, green, blue
