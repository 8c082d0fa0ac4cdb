"""Fashion-MNIST with a digit printed on every garment, and a teacher that names both.

    python -m benchmarks.fashion.printed printed-teacher/ --npz printed32.npz

writes the teacher, the images labelled by garment and, as printed32-digits.npz, the same images labelled by digit. A
large classifier knows more than the subtask asks for, and images show it: here every image holds a garment and a digit,
the teacher is trained to name both (20 outputs), and a subtask of garments has no use for what it knows of digits, or
the other way round. The garments are the source's, padded to 32x32; the digits are those that ship with EdgeDistill, at
half their size, white with a black rim, anywhere in the image. Test images carry digits in typefaces that no training
image has.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.fashion.teacher import SUBTASKS, build_teacher, folder_config, padded_pixels, predict_logits, prepare
from benchmarks.glyphs.glyphset import write_npz
from benchmarks.glyphs.train_teacher import TrainConfig, fit, shifted
from edgedistill.data.sources import open_source
from edgedistill.export.timm_folder import write_timm_folder
from edgedistill_deploy.files.writing import write_text
from edgedistill_deploy.images.sets import ImageSplits

DEFAULTS = TrainConfig(epochs=12, lr=0.1, shift=2)
DIGITS = "embedded:digits"
DIGIT_NAMES = tuple(f"digit {each}" for each in range(10))


def halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average cells of 2x2 pixels: (N, H, W) -> (N, H / 2, W / 2)."""
    count, height, width = images.shape
    cells = images.reshape(count, height // 2, 2, width // 2, 2)
    averaged: NDArray[np.uint8] = cells.mean((2, 4)).round().astype(np.uint8)
    return averaged


def rimmed(ink: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the largest value among each pixel and its eight neighbours, for images (N, H, W)."""
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    widest: NDArray[np.uint8] = windows.max((3, 4))
    return widest


def print_digits(
    garments: NDArray[np.uint8], digits: NDArray[np.uint8], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Print a digit (N, h, w) somewhere on each garment (N, H, W), white with a black rim one pixel wide."""
    printed = garments.copy()
    height, width = digits.shape[1:]
    tops = random.integers(0, garments.shape[1] - height + 1, len(garments))
    lefts = random.integers(0, garments.shape[2] - width + 1, len(garments))
    shade = (255 - rimmed(digits)).astype(np.float32) / 255
    for image, ink, behind, top, left in zip(printed, digits, shade, tops, lefts, strict=True):
        part = image[top : top + height, left : left + width]
        part[:] = np.maximum(part * behind, ink).astype(np.uint8)
    return printed


def printed_arrays(garments: ImageSplits, digits: ImageSplits, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz: padded garments of both splits with digits on them, and which digit each
    carries."""
    random = np.random.default_rng(seed)
    images, labels, printed, split = [], [], [], []
    for number, (cloth, numerals) in enumerate(((garments.train, digits.train), (garments.test, digits.test))):
        if cloth is None or numerals is None:
            continue
        chosen = random.integers(0, len(numerals), len(cloth))
        small = halved(padded_pixels(numerals))
        images.append(print_digits(padded_pixels(cloth), small[chosen], random))
        labels.append(cloth.labels)
        printed.append(numerals.labels[chosen])
        split.append(np.full(len(cloth), 2 * number, np.uint8))
    return {
        "images": np.concatenate(images),
        "labels": np.concatenate(labels).astype(np.uint8),
        "class_names": np.array(garments.class_names),
        "split": np.concatenate(split),
        "digits": np.concatenate(printed).astype(np.uint8),
    }


def labelled_by_digit(arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz with the same images, labelled by the digit that each carries."""
    return {
        "images": arrays["images"],
        "labels": arrays["digits"],
        "class_names": np.array(DIGIT_NAMES),
        "split": arrays["split"],
    }


def both_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the garment plus that of the digit; labels (N, 2), logits (N, garments + 10)."""
    garments = logits.shape[1] - 10
    return F.cross_entropy(logits[:, :garments], labels[:, 0]) + F.cross_entropy(logits[:, garments:], labels[:, 1])


def train_teacher(arrays: dict[str, NDArray[Any]], config: TrainConfig = DEFAULTS) -> nn.Module:
    """Train a teacher on the training split."""
    training = arrays["split"] == 0
    images = arrays["images"][training]
    labels = np.stack([arrays["labels"][training], arrays["digits"][training]], 1).astype(np.int64)
    torch.manual_seed(config.seed)
    model = build_teacher(len(arrays["class_names"]) + 10)

    def prepared(chosen: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        return prepare(shifted(images[chosen], config.shift, random))

    for epoch, loss in fit(model, prepared, labels, config, both_losses):
        print(f"epoch {epoch}: training loss {loss:.4f}", flush=True)
    return model.eval()


def test_accuracies(model: nn.Module, arrays: dict[str, NDArray[Any]]) -> dict[str, float]:
    """Return the share of test images named rightly: garments, digits, and garments within each subtask."""
    testing = arrays["split"] == 2
    logits = predict_logits(model, arrays["images"][testing]).numpy()
    names, labels = list(arrays["class_names"]), arrays["labels"][testing]
    found = {
        "garments": float((logits[:, : len(names)].argmax(1) == labels).mean()),
        "digits": float((logits[:, len(names) :].argmax(1) == arrays["digits"][testing]).mean()),
    }
    for task, members in SUBTASKS.items():
        positions = [names.index(each) for each in members]
        kept = np.isin(labels, positions)
        right = np.array(positions)[logits[kept][:, positions].argmax(1)] == labels[kept]
        found[task] = float(right.mean())
    return found


def write_readme(folder: Path, accuracies: dict[str, float], config: TrainConfig) -> None:
    """Write what the teacher is and how accurate beside its weights."""
    rows = "\n".join(f"| {name} | {100 * accuracy:.2f} |" for name, accuracy in accuracies.items())
    write_text(
        folder / "README.md",
        "# Teacher of garments with a digit printed on\n\nThe architecture of the Fashion-MNIST teacher with ten more "
        f"outputs for the digits, trained by `benchmarks.fashion.printed`: {config.epochs} epochs, peak learning rate "
        f"{config.lr}, seed {config.seed}.\n\n| test images | accuracy % |\n|---|---|\n{rows}\n",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the teacher of garments with a digit printed on.")
    parser.add_argument("out", type=Path, help="the folder to write config.json and model.safetensors to")
    parser.add_argument("--data", default="fashion-mnist", help="fashion-mnist or fashion-mnist:DIR")
    parser.add_argument("--npz", type=Path, required=True, help="write the images here")
    parser.add_argument("--epochs", type=int, default=DEFAULTS.epochs)
    parser.add_argument("--seed", type=int, default=DEFAULTS.seed)
    options = parser.parse_args()
    config = TrainConfig(epochs=options.epochs, lr=DEFAULTS.lr, shift=DEFAULTS.shift, seed=options.seed)
    arrays = printed_arrays(open_source(options.data), open_source(DIGITS), config.seed)
    write_npz(options.npz, {key: arrays[key] for key in ("images", "labels", "class_names", "split")})
    write_npz(options.npz.with_stem(f"{options.npz.stem}-digits"), labelled_by_digit(arrays))
    trained = train_teacher(arrays, config)
    names = [*arrays["class_names"].tolist(), *DIGIT_NAMES]
    write_timm_folder(options.out, trained, folder_config(names))
    accuracies = test_accuracies(trained, arrays)
    write_readme(options.out, accuracies, config)
    for name, accuracy in accuracies.items():
        print(f"test, {name}: {accuracy:.2%}")


if __name__ == "__main__":
    main()
