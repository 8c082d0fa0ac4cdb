"""The class that a network names for each image of a set."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedistill.data.loader import open_loader
from edgedistill.distillation.training import EVALUATION_BATCH
from edgedistill.models.teacher import Teacher
from edgedistill.networks.modes import evaluating
from edgedistill_deploy.images.sets import ImageSet


def predict_classes(
    model: nn.Module, teacher: Teacher, images: ImageSet, classes: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Return the position, among `classes` or all outputs, of the largest logit of every image (N,)."""
    device = next(model.parameters()).device
    normalise = teacher.normalise().to(device)
    found: list[Tensor] = []
    with evaluating(model), torch.no_grad():
        for pixels, *_ in open_loader(images, teacher.preprocess, EVALUATION_BATCH):
            logits = model(normalise(pixels.to(device)))
            found.append((logits if classes is None else logits[:, list(classes)]).argmax(dim=1).cpu())
    return np.asarray(torch.cat(found).numpy(), dtype=np.int64)
