"""Weights that a student starts from, and what it answers as it starts, computed by timm and NumPy alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from timm.models import save_for_hf


def write_start(folder: Path, labels: Sequence[str], seed: int = 1) -> Path:
    """Write a `test_resnet` with outputs of these labels, in timm's layout."""
    torch.manual_seed(seed)
    model = timm.create_model("test_resnet", num_classes=len(labels))
    save_for_hf(model, str(folder), {"num_classes": len(labels), "label_names": list(labels)}, safe_serialization=True)
    return folder


def answers_of(folder: Path, labels: Sequence[str], kept: Sequence[str], pixels: NDArray[np.uint8]) -> list[str]:
    """Return the answer, among the `kept` labels, of the model in `folder` to prepared images (N, H, W, 3)."""
    from safetensors.torch import load_file

    model: Any = timm.create_model("test_resnet", num_classes=len(labels)).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    with torch.no_grad():
        logits = model((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).numpy()
    rows = [labels.index(name) for name in kept]
    return [kept[place] for place in logits[:, rows].argmax(axis=1)]
