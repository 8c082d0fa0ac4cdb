"""Teachers whose channels can be told apart, to be shrunk, and a few pictures for them."""

from dataclasses import replace

import numpy as np
import torch

from edgedistill.models.teacher import Teacher
from edgedistill_deploy.images.arrays import ArrayImages
from edgedistill_deploy.images.sets import ImageSet
from reference.small_networks import small_network, small_teacher

KEPT = ("7", "2", "4")


def teacher_of(family: str) -> Teacher:
    """A teacher of ten classes whose channels all differ, and matter."""
    model = small_network(family, classes=10).eval()
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(0.5 + torch.randperm(len(tensor), generator=draws) / len(tensor))
    return replace(small_teacher(), name=family, model=model)


def few_pictures(count: int = 12) -> ImageSet:
    """Pictures of noise, without labels that mean anything."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)
    labels = np.zeros(count, dtype=np.int64)
    return ArrayImages(class_names=KEPT, labels=labels, images=pixels, rows=np.arange(count))
