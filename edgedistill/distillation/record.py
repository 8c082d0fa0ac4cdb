"""The record of the distillation in a bundle's manifest: `distillation`."""

from dataclasses import asdict
from typing import Any

from edgedistill.data.splits import SubtaskImages
from edgedistill.distillation.subdistill import DistillResult


def distillation_record(result: DistillResult, images: SubtaskImages) -> dict[str, Any]:
    """Return how the student was trained, on how many images, and its accuracy on validation images."""
    choice = result.lambda_choice
    return {
        "lambda_layer": result.lambda_layer,
        "lambda_choice": choice.to_json() if choice is not None else None,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "validation_accuracy": result.validation_accuracy,
        "teacher_validation_accuracy": result.teacher_validation_accuracy,
        "subspaces": {layer: each.method for layer, each in result.subspaces.items()},
        "pairs": [asdict(pair) for pair in result.pairs],
        "images": {"train": len(images.train), "validation": len(images.validation)},
        "notes": [*images.notes, *([choice.describe()] if choice is not None else [])],
    }
