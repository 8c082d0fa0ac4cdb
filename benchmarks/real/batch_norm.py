"""What running statistics from a few images do to a trained network: no weight changes, but its accuracy does.

    python -m benchmarks.real.batch_norm photographs

Prints how many test images of `animals-300` EfficientNet-Lite0 gets right at 160 pixels, as it is, and after its batch
normalisation has followed the 304 training images for some epochs, in batches of 64.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.real.animals import CUT_OUTS
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill_deploy.images.sets import ImageSet

IMAGE_SIZE = 160
BATCH_SIZE = 64
ROUNDS = 3
EPOCHS_A_ROUND = 2


def prepare(teacher: Teacher, images: ImageSet) -> Tensor:
    """Return the images as the network takes them, float32 (N, 3, H, W)."""
    pixels = np.stack([teacher.preprocess.apply(images.read(index)) for index in range(len(images))])
    with torch.no_grad():
        normalised: Tensor = teacher.normalise()(torch.from_numpy(pixels))
    return normalised


def measure(teacher: Teacher, pixels: Tensor, images: ImageSet) -> float:
    """Return the accuracy among the eight animals."""
    columns = list(teacher.subtask(tuple(CUT_OUTS)).class_indices)
    teacher.model.eval()
    with torch.no_grad():
        logits = torch.cat([teacher.model(batch)[:, columns] for batch in torch.split(pixels, BATCH_SIZE)])
    return float((logits.argmax(1).numpy() == images.labels).mean())


def follow(teacher: Teacher, pixels: Tensor, generator: torch.Generator) -> None:
    """Let the running statistics follow the images for some epochs."""
    teacher.model.train()
    with torch.no_grad():
        for _ in range(EPOCHS_A_ROUND):
            for rows in torch.split(torch.randperm(len(pixels), generator=generator), BATCH_SIZE):
                teacher.model(pixels[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that benchmarks.real.prepare filled")
    data = parser.parse_args().data
    teacher = load_teacher(str(data / "lite0"), image_size=IMAGE_SIZE)
    images = split_for_subtask(open_source(str(data / "animals-300")), tuple(CUT_OUTS))
    train, test = (prepare(teacher, each) for each in (images.train, images.evaluation))
    print(f"as it is: {measure(teacher, test, images.evaluation):.1%} of {len(test)} images")
    generator = torch.Generator().manual_seed(0)
    for number in range(1, ROUNDS + 1):
        follow(teacher, train, generator)
        share = measure(teacher, test, images.evaluation)
        print(f"statistics of {number * EPOCHS_A_ROUND} epochs of {len(train)} images: {share:.1%}")


if __name__ == "__main__":
    main()
