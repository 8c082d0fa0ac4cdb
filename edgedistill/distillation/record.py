"""The record of the distillation in a bundle's manifest: `distillation`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from edgedistill.config import DistillConfig
from edgedistill.data.splits import SubtaskImages
from edgedistill.data.unlabelled import unlabelled_count
from edgedistill.distillation.lesson import Guide
from edgedistill.distillation.subdistill import DistillResult
from edgedistill.models.names import shown_teacher_name
from edgedistill_deploy.wording import join_words


def distillation_record(
    result: DistillResult,
    images: SubtaskImages,
    config: DistillConfig,
    *,
    beside: Sequence[Guide] = (),
    assistant: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return how the student was trained, on how many images, and its accuracy on validation images.

    `judged_by` is "teacher" where no validation image has a label: the accuracies are then agreement with the teacher.
    `unlabelled` counts the training images without a label.
    `loading` has the processes that decoded images, and the bytes of prepared images that were kept in memory.
    `standing` compares it with chance; its `sentence` is for the user, and empty where nothing is wrong.
    `beside` are further teachers, and `assistant` is the record of the choice of an assistant, with its `sentence`.
    """
    choice = result.lambda_choice
    standing = _standing(result, config, len(images.train))
    return {
        "lambda_layer": result.lambda_layer,
        "lambda_choice": choice.to_json() if choice is not None else None,
        "best_epoch": result.best_epoch,
        "epochs": len(result.history),
        "validation_accuracy": result.validation_accuracy,
        "validation_loss": result.history[result.best_epoch].validation_loss,
        "epochs_of_equal_accuracy": result.equal_epochs,
        "teacher_validation_accuracy": result.teacher_validation_accuracy,
        "judged_by": result.judged_by,
        "subspaces": {layer: each.method for layer, each in result.subspaces.items()},
        "pairs": [asdict(pair) for pair in result.pairs],
        "images": {"train": len(images.train), "validation": len(images.validation)},
        "unlabelled": unlabelled_count(images.train),
        "loading": dict(result.loading),
        "standing": standing,
        **({"teachers_beside": [_describe_guide(each) for each in beside]} if beside else {}),
        **({"assistant": dict(assistant)} if assistant is not None else {}),
        "notes": [
            *images.notes,
            *([choice.describe()] if choice is not None else []),
            *([assistant["sentence"]] if assistant is not None else []),
            *([_say_beside(beside)] if beside else []),
            *([standing["sentence"]] if standing and standing["sentence"] else []),
        ],
    }


def _describe_guide(guide: Guide) -> dict[str, str]:
    return {"name": shown_teacher_name(guide.teacher.name), "weights_sha256": guide.teacher.weights_sha256}


def _say_beside(beside: Sequence[Guide]) -> str:
    names = join_words([shown_teacher_name(each.teacher.name) for each in beside])
    return (
        f"The logits were also learnt from {names}, weighed image by image; layers, subspaces and the reference are "
        "the first teacher's."
    )


def _standing(result: DistillResult, config: DistillConfig, image_count: int) -> dict[str, Any] | None:
    if result.standing is None:
        return None
    sentence = result.standing.sentence(config, image_count)
    return {**result.standing.to_json(), "said_after_epochs": result.doubted_after, "sentence": sentence}
