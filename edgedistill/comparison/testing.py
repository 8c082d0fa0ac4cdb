"""Testing a model on images: its accuracy, its recalls, and which single answers are right."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.distillation.training import predict_classes
from edgedistill.models.teacher import Teacher
from edgedistill.networks.logits import ClassIndices
from edgedistill_deploy.images.sets import ImageSet


def measure_answers(
    model: nn.Module, teacher: Teacher, images: ImageSet, truth: NDArray[np.int64], classes: ClassIndices | None = None
) -> dict[str, Any]:
    """Test a model on images with the teacher's preprocessing.

    Args:
        model: gives logits.
        teacher: of the images' classes.
        images: the images.
        truth: the right answers (N,), as `true_classes` gives them.
        classes: the outputs that count, as for `restrict_logits`; None for all.
    """
    correct = predict_classes(model, teacher, images, classes) == truth
    present = np.unique(truth).tolist()
    return {
        "test_accuracy": float(correct.mean()),
        "test_images": len(images),
        "correct_hex": np.packbits(correct).tobytes().hex(),
        "recall": {images.class_names[label]: float(correct[truth == label].mean()) for label in present},
    }
