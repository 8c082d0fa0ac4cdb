"""The Fashion-MNIST teacher: its images, its architecture, its folder in timm's layout, its accuracy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import edgedistill.models.small_images  # noqa: F401  # enters resnet18_cifar into timm's registry
from benchmarks.timm_folder import TimmNetwork
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.sets import ImageSet, ImageSplits

INPUT_SIZE = 32
MEAN, STD = 0.2860, 0.3530
ARCHITECTURE = "resnet18_cifar"
MODEL_ARGS: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256], "stem_pool": True}
NETWORK = TimmNetwork(
    architecture=ARCHITECTURE, model_args=MODEL_ARGS, input_size=INPUT_SIZE, mean=MEAN, std=STD, reduction=16
)
SUBTASKS: dict[str, tuple[str, ...]] = {
    "footwear": ("Sandal", "Sneaker", "Ankle boot"),
    "tops": ("T-shirt/top", "Pullover", "Dress", "Coat", "Shirt"),
}


def padded_pixels(images: ImageSet) -> NDArray[np.uint8]:
    """Return grey images (N, 32, 32): those of a set of 28x28 arrays with two black pixels at every edge.

    Raises:
        DataError: the set holds no grey arrays of at most 32x32.
    """
    if not isinstance(images, ArrayImages) or images.images.ndim != 3 or max(images.images.shape[1:]) > INPUT_SIZE:
        raise DataError(f"The images are not grey arrays of at most {INPUT_SIZE}x{INPUT_SIZE} pixels.")
    pixels = images.images[images.rows]
    height, width = ((side // 2, side - side // 2) for side in (INPUT_SIZE - np.array(pixels.shape[1:])).tolist())
    return np.pad(pixels, ((0, 0), height, width))


def padded_arrays(splits: ImageSplits) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz that holds the padded images of both splits."""
    sets = [splits.train, splits.test or splits.train.select([])]
    return {
        "images": np.concatenate([padded_pixels(each) for each in sets]),
        "labels": np.concatenate([each.labels for each in sets]).astype(np.uint8),
        "class_names": np.array(splits.class_names),
        "split": np.repeat(np.array([0, 2], np.uint8), [len(each) for each in sets]),
    }


def build_teacher(class_count: int) -> nn.Module:
    """Build the untrained teacher: one basic block a stage, 3x3 stem; 32x32 images give maps of 16, 8, 4 and 2."""
    model: nn.Module = timm.create_model(ARCHITECTURE, num_classes=class_count, **MODEL_ARGS)
    return model.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def prepare(images: NDArray[np.uint8]) -> Tensor:
    """Turn grey uint8 images (N, H, W) into the teacher's normalised input (N, 3, H, W)."""
    grey = torch.from_numpy(np.ascontiguousarray(images)).float().div_(255.0).sub_(MEAN).div_(STD)
    return grey.unsqueeze(1).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def predict_logits(model: nn.Module, images: NDArray[np.uint8], batch_size: int = 256) -> Tensor:
    """Return the logits (N, C) of a model in evaluation mode."""
    model.eval()
    with torch.inference_mode():
        blocks = [model(prepare(images[i : i + batch_size])) for i in range(0, len(images), batch_size)]
    return torch.cat(blocks)


def measure_accuracies(
    logits: Tensor, labels: NDArray[np.integer[Any]], class_names: Sequence[str]
) -> dict[str, float]:
    """Return the share of images whose class has the largest logit: of all classes, and within each subtask.

    Within a subtask, only its images and its logits count.
    """
    parts = {"all classes": tuple(class_names), **SUBTASKS}
    return {
        name: _restricted_accuracy(logits.numpy(), labels, [class_names.index(each) for each in members])
        for name, members in parts.items()
    }


def _restricted_accuracy(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]], positions: list[int]) -> float:
    kept = np.isin(labels, positions)
    chosen = np.array(positions)[logits[kept][:, positions].argmax(1)]
    return float((chosen == labels[kept]).mean())


def folder_config(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the config.json of the garments' teacher's folder; `label_names` is in output order."""
    return NETWORK.folder_config(class_names)
