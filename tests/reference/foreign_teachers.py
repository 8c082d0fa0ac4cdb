"""Small classifiers of other libraries, with random weights, as their users have them on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

LABELS = ("cat", "dog", "fox", "owl")
SHUFFLENET = "shufflenet_v2_x0_5"


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network in evaluation mode, with the same random weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval()


def small_timm(name: str = "test_resnet", classes: int = len(LABELS), **options: Any) -> nn.Module:
    """One of timm's networks for tests: a tenth of a million weights, images of 160 x 160."""
    build: Any = timm.create_model
    return seeded(lambda: build(name, num_classes=classes, **options))


def shufflenet(classes: int = len(LABELS)) -> nn.Module:
    """The smallest network of torchvision."""
    from torchvision import models

    build: Any = models.get_model
    return seeded(lambda: build(SHUFFLENET, weights=None, num_classes=classes))


def write_labels(path: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """Write one label a line."""
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    return path


def write_transformers_folder(folder: Path, family: str = "vit", processor: Any = None, **config: Any) -> Path:
    """Save a small image classifier of transformers for 64 x 64 images with its image processor; skip without it."""
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: place for place, name in enumerate(LABELS)}}
    library.utils.logging.disable_progress_bar()
    model: Any = seeded(lambda: _transformers_model(library, family, {**labels, **config}))
    model.save_pretrained(folder)
    (processor or library.ViTImageProcessor(size={"height": 64, "width": 64})).save_pretrained(folder)
    return folder


def _transformers_model(library: Any, family: str, config: dict[str, Any]) -> Any:
    sizes: dict[str, Any]
    if family == "vit":
        sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
        return library.ViTForImageClassification(library.ViTConfig(image_size=64, patch_size=16, **{**sizes, **config}))
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "layer_type": "basic"}
    return library.ResNetForImageClassification(library.ResNetConfig(**{**sizes, **config}))
