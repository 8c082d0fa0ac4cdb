"""Train the Fashion-MNIST teacher and write it as a folder that timm loads.

    python -m benchmarks.fashion.train_teacher teacher/ --npz fashion32.npz

writes config.json, model.safetensors and README.md, and with --npz the padded 32x32 images that it was trained on. SGD
with Nesterov momentum and a one-cycle schedule; images are shifted by up to two pixels and mirrored. All training
images are used and nothing is chosen by accuracy: the test images are looked at once, at the end.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.fashion.teacher import (
    build_teacher,
    folder_config,
    measure_accuracies,
    padded_arrays,
    padded_pixels,
    predict_logits,
    prepare,
)
from benchmarks.glyphs.glyphset import write_npz
from benchmarks.glyphs.train_teacher import TrainConfig, fit, shifted
from edgedistill.export.timm_folder import write_timm_folder
from edgedistill_deploy.errors import DataError
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.images.sets import ImageSplits
from edgedistill_deploy.images.sources import open_images

DEFAULTS = TrainConfig(epochs=12, lr=0.1, shift=2)


def mirrored(images: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Mirror each image (N, H, W) left to right with probability one half."""
    chosen = random.random(len(images)) < 0.5
    return np.where(chosen[:, None, None], images[..., ::-1], images)


def train_teacher(
    splits: ImageSplits, config: TrainConfig = DEFAULTS, progress: Callable[[int, float], None] | None = None
) -> nn.Module:
    """Train a teacher on the training split; `progress` gets (epoch, mean loss).

    Raises:
        DataError: there are fewer training images than one batch takes.
    """
    count = min(config.images or len(splits.train), len(splits.train))
    places = np.random.default_rng(config.seed).permutation(len(splits.train))[:count]
    if count < config.batch_size:
        raise DataError(f"There are {count} training images, fewer than one batch of {config.batch_size}.")
    part = splits.train.select(places)
    images = padded_pixels(part)
    torch.manual_seed(config.seed)
    model = build_teacher(len(splits.class_names))

    def prepared(chosen: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        return prepare(mirrored(shifted(images[chosen], config.shift, random), random))

    for epoch, loss in fit(model, prepared, part.labels, config):
        if progress:
            progress(epoch, loss)
    return model.eval()


def accuracies_on_test(model: nn.Module, splits: ImageSplits) -> dict[str, float]:
    """Return the accuracy on the test images: of all classes and within each subtask.

    Raises:
        DataError: the source has no test images.
    """
    if splits.test is None:
        raise DataError("The source has no test images to measure the teacher on.")
    logits = predict_logits(model, padded_pixels(splits.test))
    return measure_accuracies(logits, splits.test.labels, splits.class_names)


def write_readme(folder: Path, accuracies: dict[str, float], config: TrainConfig) -> None:
    """Write what the teacher is and how accurate beside its weights."""
    rows = "\n".join(f"| {name} | {100 * accuracy:.2f} |" for name, accuracy in accuracies.items())
    write_text(
        folder / "README.md",
        "# Fashion-MNIST teacher\n\nA ResNet of four basic blocks (widths 32, 64, 128, 256), 3x3 stem of stride 1, "
        f"3x3 max-pool of stride 2, trained by `benchmarks.fashion.train_teacher`: {config.epochs} epochs, peak "
        f"learning rate {config.lr}, seed {config.seed}, on 28x28 images padded with black to 32x32.\n\n| test images "
        f"of | accuracy % |\n|---|---|\n{rows}\n\nWithin a subtask, only its images and its logits count.\n",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the Fashion-MNIST teacher.")
    parser.add_argument("out", type=Path, help="the folder to write config.json, model.safetensors and README.md to")
    parser.add_argument(
        "--data", default="fashion-mnist", help="fashion-mnist or fashion-mnist:DIR (default: %(default)s)"
    )
    parser.add_argument("--npz", type=Path, help="write the padded images of both splits here as well")
    parser.add_argument("--epochs", type=int, default=DEFAULTS.epochs)
    parser.add_argument("--batch-size", type=int, default=DEFAULTS.batch_size)
    parser.add_argument("--lr", type=float, default=DEFAULTS.lr, help="peak of the one-cycle schedule")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed)
    parser.add_argument("--half", action="store_true", help="round the weights to half precision")
    options = parser.parse_args()
    config = TrainConfig(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        shift=DEFAULTS.shift,
        images=options.images,
        seed=options.seed,
    )
    splits = open_images(options.data)
    if options.npz:
        write_npz(options.npz, padded_arrays(splits))
    model = train_teacher(
        splits, config, lambda epoch, loss: print(f"epoch {epoch}: training loss {loss:.4f}", flush=True)
    )
    write_timm_folder(options.out, model, folder_config(splits.class_names), half=options.half)
    if options.half:
        model.half().float()
    accuracies = accuracies_on_test(model, splits)
    write_readme(options.out, accuracies, config)
    for name, accuracy in accuracies.items():
        print(f"test, {name}: {accuracy:.2%}")


if __name__ == "__main__":
    main()
