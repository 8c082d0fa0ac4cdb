"""Testing a model on images: its accuracy, its recalls, and which single answers are right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from edgedistill.distillation.training import predict_classes
from edgedistill.models.teacher import Teacher
from edgedistill_deploy.images.sets import ImageSet


def measure_answers(
    model: nn.Module, teacher: Teacher, images: ImageSet, classes: Sequence[int] | None = None
) -> dict[str, Any]:
    """Test a model on images with the teacher's preprocessing; `classes` are the outputs that count, None for all."""
    correct = predict_classes(model, teacher, images, classes) == images.labels
    shares = [correct[images.labels == label].mean() for label in range(len(images.class_names))]
    return {
        "test_accuracy": float(correct.mean()),
        "test_images": len(images),
        "correct_hex": np.packbits(correct).tobytes().hex(),
        "recall": {name: float(share) for name, share in zip(images.class_names, shares, strict=True)},
    }
