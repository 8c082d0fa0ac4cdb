"""Small, randomly initialised timm networks of many families, all for images of 64 x 64."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from edgedistill.data.sources import open_source
from edgedistill.data.splits import SubtaskImages, split_for_subtask
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.images.preprocess import Preprocess

SMALL_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet": ("resnet18", {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}),
    "mobilenetv3": ("mobilenetv3_small_050", {}),
    "mobilenetv4": ("mobilenetv4_conv_small_035", {}),
    "efficientnet": ("efficientnet_b0", {}),
    "convnext": ("convnext_atto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}),
    "lcnet": ("lcnet_035", {}),
    "vit": ("vit_tiny_patch16_224", {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 6, "num_heads": 2}),
    "vit-registers": (
        "vit_small_patch16_dinov3",
        {"img_size": 64, "patch_size": 8, "embed_dim": 32, "depth": 5, "num_heads": 2},
    ),
    "deit": (
        "deit_tiny_distilled_patch16_224",
        {"img_size": 64, "patch_size": 8, "embed_dim": 24, "depth": 6, "num_heads": 2},
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {
            "img_size": 64,
            "patch_size": 2,
            "window_size": 4,
            "embed_dim": 8,
            "depths": (1, 1, 2, 1),
            "num_heads": (1, 1, 2, 2),
        },
    ),
    "regnet": ("regnetx_002", {}),
    "densenet": ("densenet121", {"growth_rate": 4, "block_config": (2, 2, 2, 2)}),
    "mambaout": ("mambaout_femto", {"dims": (8, 16, 24, 32), "depths": (1, 1, 1, 1)}),
}


def small_network(family: str, classes: int = 6) -> nn.Module:
    """Build one of them with fixed random weights."""
    name, options = SMALL_NETWORKS[family]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=classes, **options)
    return model


def small_teacher() -> Teacher:
    """A teacher of the ten digits that has learnt nothing and answers in a tenth of the embedded one's time."""
    return Teacher(
        name="small",
        model=small_network("resnet", classes=10).eval(),
        class_names=tuple("0123456789"),
        preprocess=Preprocess(size=(64, 64)),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def few_images(digits: Path, classes: Sequence[str]) -> SubtaskImages:
    """Take every second training image and every third validation image of these classes from an npz of digits."""
    whole = split_for_subtask(open_source(f"npz:{digits}"), classes)
    return SubtaskImages(
        train=whole.train.select(range(0, len(whole.train), 2)),
        validation=whole.validation.select(range(0, len(whole.validation), 3)),
        test=whole.test,
    )
