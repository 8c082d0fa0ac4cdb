"""A shrunk teacher before any training: how much the choice of the channels matters.

    python -m benchmarks.real.shrunk_start photographs

Prints for EfficientNet-Lite0 at 128 pixels how many validation images of `animals-300` the teacher gets right among the
eight animals, and a student that keeps a share of its channels, chosen in each way by the training images.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.real.animals import CUT_OUTS
from edgedistill.data.sources import open_source
from edgedistill.data.splits import split_for_subtask
from edgedistill.models.student_names import CHANNEL_CHOICES
from edgedistill.models.teacher import Teacher, load_teacher
from edgedistill.shrinking.shrinking import shrink_teacher
from edgedistill_deploy.images.sets import ImageSet

IMAGE_SIZE = 128
SHARES = (0.95, 0.85, 0.5)
BATCH_SIZE = 32


def measure(network: nn.Module, columns: list[int], teacher: Teacher, images: ImageSet) -> float:
    """Return the accuracy among the classes in these columns of the network's output."""
    pixels = np.stack([teacher.preprocess.apply(images.read(index)) for index in range(len(images))])
    network.eval()
    with torch.no_grad():
        batches = torch.split(teacher.normalise()(torch.from_numpy(pixels)), BATCH_SIZE)
        answers = torch.cat([network(batch)[:, columns].argmax(1) for batch in batches])
    return float((answers.numpy() == images.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder that benchmarks.real.prepare filled")
    data = parser.parse_args().data
    teacher = load_teacher(str(data / "lite0"), image_size=IMAGE_SIZE)
    subtask = teacher.subtask(tuple(CUT_OUTS))
    images = split_for_subtask(open_source(str(data / "animals-300")), tuple(CUT_OUTS))
    rows = [index for (index,) in subtask.members]
    own = measure(teacher.model, rows, teacher, images.validation)
    print(f"the teacher: {own:.1%} of {len(images.validation)} validation images")
    for share in SHARES:
        for channels in CHANNEL_CHOICES:
            student = shrink_teacher(teacher, subtask, images.train, share, channels=channels).network
            right = measure(student, list(range(len(subtask))), teacher, images.validation)
            print(f"{share:g} of the channels by {channels}: {right:.1%}", flush=True)


if __name__ == "__main__":
    main()
