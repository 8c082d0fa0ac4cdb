"""Train the glyph teacher and write it as a folder that timm loads.

    python -m benchmarks.glyphs.train_teacher glyphs.npz teacher/

SGD with Nesterov momentum and a one-cycle schedule; the only augmentation is a shift. Validation families are looked at
after every epoch, test families once, at the end.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.glyphs.glyphset import SUPERCLASSES, TEST, TRAIN, VALIDATION, GlyphSet, read_glyphs
from benchmarks.glyphs.teacher import build_teacher, measure_accuracy, prepare, write_teacher
from edgedistill_deploy.errors import DataError, UsageError

DIGITS = "0123456789"
Progress = Callable[[int, float, float], None]
Prepared = Callable[[NDArray[np.int64], np.random.Generator], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How the teacher is trained; `lr` is the peak of the one-cycle schedule, `shift` is in pixels, `images` of the
    training images are used (all when None)."""

    epochs: int = 12
    batch_size: int = 128
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    shift: int = 3
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise UsageError(
                f"Epochs must be at least 1 and the batch size at least 2, and were {self.epochs} and "
                f"{self.batch_size}."
            )


def shifted(images: NDArray[np.uint8], limit: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Move each image (N, H, W) by up to `limit` pixels along both axes, black coming in."""
    count, height, width = images.shape
    padded = np.pad(images, ((0, 0), (limit, limit), (limit, limit)))
    down, right = random.integers(0, 2 * limit + 1, (2, count, 1, 1))
    rows = down + np.arange(height).reshape(1, height, 1)
    columns = right + np.arange(width).reshape(1, 1, width)
    moved: NDArray[np.uint8] = padded[np.arange(count).reshape(-1, 1, 1), rows, columns]
    return moved


def _training_part(glyphs: GlyphSet, config: TrainConfig) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    places = np.flatnonzero(glyphs.split == TRAIN)
    if config.images is not None:
        places = np.random.default_rng(config.seed).permutation(places)[: config.images]
    if len(places) < config.batch_size:
        raise DataError(f"There are {len(places)} training images, fewer than one batch of {config.batch_size}.")
    return glyphs.images[places], glyphs.labels[places].astype(np.int64)


def _batch_places(count: int, size: int, random: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Deal out a permutation in full batches; the rest of fewer than `size` sits this epoch out."""
    order = random.permutation(count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]


def train_teacher(glyphs: GlyphSet, config: TrainConfig | None = None, progress: Progress | None = None) -> nn.Module:
    """Train a teacher on the training families; `progress` gets (epoch, mean loss, validation accuracy)."""
    config = config or TrainConfig()
    images, labels = _training_part(glyphs, config)
    torch.manual_seed(config.seed)
    model = build_teacher(len(glyphs.class_names))

    def prepared(places: NDArray[np.int64], random: np.random.Generator) -> Tensor:
        return prepare(shifted(images[places], config.shift, random))

    for epoch, loss in fit(model, prepared, labels, config):
        if progress:
            progress(epoch, loss, measure_accuracy(model, glyphs, VALIDATION))
    return model.eval()


def fit(
    model: nn.Module,
    prepared: Prepared,
    labels: NDArray[np.int64],
    config: TrainConfig,
    loss_of: Loss = F.cross_entropy,
) -> Iterator[tuple[int, float]]:
    """Train a classifier in place and yield (epoch, mean loss) after each epoch.

    `prepared` turns positions among `labels` (N, ...), and a generator for the augmentation, into the model's input;
    `loss_of` gets the logits and the labels of a batch.
    """
    random = np.random.default_rng(config.seed)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, nesterov=True
    )
    steps = config.epochs * (len(labels) // config.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=config.lr, total_steps=steps)
    for epoch in range(config.epochs):
        losses = []
        model.train()
        for places in _batch_places(len(labels), config.batch_size, random):
            loss = loss_of(model(prepared(places, random)), torch.from_numpy(labels[places]))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        yield epoch + 1, float(np.mean(losses))


def measure_test_families(model: nn.Module, glyphs: GlyphSet) -> dict[str, float]:
    """Return the accuracy on the test families: of all classes, and restricted to the digits and each superclass."""
    parts = {"ten digits": DIGITS, **SUPERCLASSES}
    known = {name: members for name, members in parts.items() if set(members) <= set(glyphs.class_names)}
    return {
        "all classes": measure_accuracy(model, glyphs, TEST),
        **{name: measure_accuracy(model, glyphs, TEST, members) for name, members in known.items()},
    }


def main() -> None:
    defaults = TrainConfig()
    parser = argparse.ArgumentParser(description="Train the glyph teacher.")
    parser.add_argument("glyphs", type=Path, help="a glyph set that benchmarks.glyphs.render wrote")
    parser.add_argument("out", type=Path, help="the folder to write config.json and model.safetensors to")
    parser.add_argument("--epochs", type=int, default=defaults.epochs)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--lr", type=float, default=defaults.lr, help="peak of the one-cycle schedule")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--half", action="store_true", help="write the weights in half precision")
    options = parser.parse_args()
    config = TrainConfig(
        epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, images=options.images, seed=options.seed
    )
    glyphs = read_glyphs(options.glyphs)
    model = train_teacher(
        glyphs,
        config,
        lambda epoch, loss, accuracy: print(f"epoch {epoch}: loss {loss:.3f}, validation {accuracy:.2%}", flush=True),
    )
    write_teacher(options.out, model, glyphs.class_names, half=options.half)
    for name, accuracy in measure_test_families(model, glyphs).items():
        print(f"test, {name}: {accuracy:.2%}")


if __name__ == "__main__":
    main()
