"""The glyph teacher: its architecture, its input, its folder in timm's layout, its accuracy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.glyphs.glyphset import GlyphSet
from benchmarks.timm_folder import TimmNetwork
from edgedistill.export.timm_folder import write_timm_folder

INPUT_SIZE = 64
MEAN, STD = 0.13, 0.30
ARCHITECTURE = "resnet18"
MODEL_ARGS: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
NETWORK = TimmNetwork(
    architecture=ARCHITECTURE, model_args=MODEL_ARGS, input_size=INPUT_SIZE, mean=MEAN, std=STD, reduction=32
)


def build_teacher(class_count: int) -> nn.Module:
    """Build the untrained teacher: one basic block a stage, a quarter to a half of ResNet-18's width."""
    model: nn.Module = timm.create_model(ARCHITECTURE, num_classes=class_count, **MODEL_ARGS)
    return model


def prepare(images: NDArray[np.uint8]) -> Tensor:
    """Turn grey uint8 images (N, H, W) into the teacher's normalised input (N, 3, 64, 64)."""
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255.0).unsqueeze(1)
    enlarged = F.interpolate(grey, size=INPUT_SIZE, mode="bilinear", align_corners=False)
    return enlarged.sub_(MEAN).div_(STD).expand(-1, 3, -1, -1)


def predict_logits(model: nn.Module, images: NDArray[np.uint8], batch_size: int = 256) -> Tensor:
    """Return the logits (N, C) of a teacher in evaluation mode."""
    with torch.inference_mode():
        blocks = [model(prepare(images[i : i + batch_size])) for i in range(0, len(images), batch_size)]
    return torch.cat(blocks)


def measure_accuracy(model: nn.Module, glyphs: GlyphSet, split: int, characters: str | None = None) -> float:
    """Return the share of one split's images whose class has the largest logit, in [0, 1].

    `characters` restricts both the images and the logits to some classes; the set's classes are the model's otherwise.
    """
    chosen = characters or "".join(glyphs.class_names)
    positions = [glyphs.class_names.index(name) for name in chosen]
    part = glyphs.only(chosen)
    of_split = part.split == split
    model.eval()
    logits = predict_logits(model, part.images[of_split])[:, positions]
    correct = logits.argmax(1).numpy() == part.labels[of_split]
    return float(correct.mean())


def folder_config(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of the glyph teacher's folder; `label_names` is in output order."""
    return NETWORK.folder_config(class_names)


def write_teacher(folder: Path, model: nn.Module, class_names: Sequence[str], *, half: bool = False) -> None:
    """Write the glyph teacher's folder; with `half` the floating-point weights are rounded to half precision."""
    write_timm_folder(folder, model, folder_config(class_names), half=half)


def load_teacher(folder: Path) -> nn.Module:
    """Load a teacher folder as a float32 model in evaluation mode."""
    model: nn.Module = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
    return model.eval()


def class_names_of(model: nn.Module) -> tuple[str, ...]:
    """Return the labels a loaded teacher carries, in output order."""
    config: dict[str, Any] = dict(model.pretrained_cfg)  # type: ignore[arg-type]  # timm sets a mapping
    return tuple(config.get("label_names") or ())
