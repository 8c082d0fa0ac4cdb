"""The student: a timm model or a plain network by name, made narrower on request, with one output per subtask class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from edgedistill.models.libraries.timm_models import set_image_size
from edgedistill.models.libraries.timm_names import check_timm_name
from edgedistill.models.plain import PlainNet
from edgedistill.models.student_names import PREFIX, check_width, is_shrunk, plain_widths, shrunk_share
from edgedistill_deploy.errors import DataError, UsageError, nearest_names
from edgedistill_deploy.files.writing import write_whole

# The model that is distilled and exported, under a name for modules without torch.
Student: TypeAlias = nn.Module

# Widths are rounded to multiples of this, for whole groups.
CHANNEL_STEP = 4


def check_student_name(name: str) -> None:
    """Refuse a name that `build_student` cannot build; nothing is built.

    Raises:
        UsageError: no such timm model, no widths after `plain:`, or no share after `teacher:`.
    """
    if name.startswith(PREFIX):
        plain_widths(name)
    elif is_shrunk(name):
        shrunk_share(name)
    else:
        check_timm_name(name.removeprefix("timm:"))


def build_student(
    name: str, class_count: int, *, width: float = 1.0, image_size: tuple[int, int] | None = None, seed: int = 0
) -> nn.Module:
    """Create an untrained student.

    Args:
        name: `timm:NAME`, `plain:W-W-...` for a plain convolutional network with stages of these widths, or
            `plain:W-W-.../H-H` with hidden layers of these widths in its head.
        class_count: C, the number of subtask classes.
        width: factor on every layer's channels, for families whose widths are arguments (ResNet, ConvNeXt, ViT, ...).
            The mobile families have the width in their names (`mobilenetv4_conv_small_050`).
        image_size: (H, W), for models whose weights depend on it.
        seed: fixes the initial weights; torch's own generator does not change.

    Raises:
        UsageError: no such model, a width that this family cannot take, or a shrunk teacher, which `shrink_teacher`
            makes.
    """
    check_student_name(name)
    check_width(width)
    if is_shrunk(name):
        raise UsageError(f"The student {name} is made from its teacher: use edgedistill.shrink_teacher.")
    with torch.random.fork_rng(devices=[]):
        if name.startswith(PREFIX):
            torch.default_generator.manual_seed(seed)
            stages, hidden = plain_widths(name)
            return PlainNet(tuple(scale_channels(each, width, 1) for each in stages), class_count, hidden)
        timm_name = name.removeprefix("timm:")
        arguments = scaled_arguments(name, width)
        torch.default_generator.manual_seed(seed)
        student: nn.Module = timm.create_model(timm_name, pretrained=False, num_classes=class_count, **arguments)
    if image_size is not None:
        set_image_size(student, image_size)
    return student


def scaled_arguments(name: str, width: float) -> Mapping[str, Any]:
    """Return the arguments that make timm build `timm:NAME` at a width; none at its full width.

    Raises UsageError for a family whose width is no argument.
    """
    return {} if width == 1.0 else _build_scaled_arguments(name.removeprefix("timm:"), width)


def _build_scaled_arguments(timm_name: str, width: float) -> Mapping[str, Any]:
    """Return the constructor arguments that make this model `width` times as wide."""
    reference = timm.create_model(timm_name, pretrained=False, num_classes=2)
    for family in (_resnet_arguments, _build_staged_arguments, _token_arguments):
        if arguments := family(reference, width):
            return arguments
    stem = timm_name.rsplit("_", 1)[0]
    raise UsageError(
        f"The width of {timm_name} cannot be scaled by a factor; choose a narrower model by name instead."
        + nearest_names(timm_name, [each for each in timm.list_models(f"{stem}*") if each != timm_name])
    )


def scale_channels(channels: int, width: float, step: int = CHANNEL_STEP) -> int:
    """Return `width` times so many channels, rounded to a multiple of `step`, at least one step."""
    return max(step, round(channels * width / step) * step)


def _resnet_arguments(reference: nn.Module, width: float) -> Mapping[str, Any]:
    if not isinstance(reference, timm.models.ResNet):
        return {}
    # ResNet's own default widths; a bottleneck's output is four times as wide.
    arguments: dict[str, Any] = {"channels": tuple(scale_channels(each, width) for each in (64, 128, 256, 512))}
    if isinstance(reference.conv1, nn.Sequential):  # a deep stem; the plain one has no width of its own
        first: Any = reference.conv1[0]
        arguments["stem_width"] = scale_channels(first.out_channels, width)
    return arguments


def _build_staged_arguments(reference: nn.Module, width: float) -> Mapping[str, Any]:
    """Return the arguments of families with one `dims` tuple for their stages: ConvNeXt and its relatives."""
    if not isinstance(reference, timm.models.ConvNeXt):
        return {}
    stages: Any = reference.feature_info
    return {"dims": tuple(scale_channels(stage["num_chs"], width) for stage in stages)}


def _token_arguments(reference: nn.Module, width: float) -> Mapping[str, Any]:
    """Return the arguments of plain vision transformers: fewer heads of the same size."""
    if not isinstance(reference, timm.models.VisionTransformer):
        return {}
    first: Any = reference.blocks[0]
    heads: int = first.attn.num_heads
    kept = max(1, round(heads * width))
    return {"embed_dim": reference.embed_dim // heads * kept, "num_heads": kept}


def write_student(student: nn.Module, path: Path, inside: Path | None = None) -> None:
    """Write the student's weights as safetensors, whole or not at all; `inside` is as for `write_whole`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.state_dict().items()}
    size = sum(tensor.nbytes for tensor in tensors.values())
    with write_whole(path, inside=inside, size=size) as temporary:
        save_file(tensors, temporary)


def read_student(student: nn.Module, path: Path) -> nn.Module:
    """Fill an untrained student with weights that `write_student` wrote.

    Raises:
        DataError: the weights are of another architecture, width or number of classes.
    """
    try:
        student.load_state_dict(load_file(path), strict=True)
    except (RuntimeError, SafetensorError) as error:
        raise DataError(f"The weights in {path} do not fit the student; distil again with --restart.") from error
    return student
