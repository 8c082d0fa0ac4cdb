"""Faults of the images and labels of a check. They are always looked for, because a wrong label hides a wrong model."""

from collections.abc import Iterator

import numpy as np

from edgedistill_deploy.diagnosis._judged_model import JudgedModel, Repair
from edgedistill_deploy.diagnosis._relabelling import Relabelling, find_relabelling
from edgedistill_deploy.records.parity import Diagnosis

SWAPPED_LABELS, PERMUTED_REFERENCE = "swapped_labels", "permuted_reference"
_MANY_UNKNOWN = 0.5
_MANY_CONFLICTS = 0.1


def find_image_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the faults of the images and of their labels."""
    yield from _find_swapped_labels(judged)
    yield from _unknown_images(judged)


def _find_swapped_labels(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Compare the labels with the teacher's recorded answers: if these fit another order, one of both is wrong.

    The model's own answers tell which one. It was taught by the teacher, so that it agrees with the side that is right.
    """
    answers, names = judged.answers, judged.bundle.class_names
    labels, expected = answers.labels[answers.labelled], answers.expected[answers.labelled]
    found = find_relabelling(labels, expected, answers.teacher.shape[1])
    repair = found.repair(labels, expected) if found else None
    if found and repair and repair.convinces(judged.confidence, 0.0):
        yield _describe_order(found, repair, _who_is_permuted(found, judged), names)
    elif judged.evaluation.conflict_count > _MANY_CONFLICTS * len(answers):
        share = judged.evaluation.conflict_count / len(answers)
        detail = (
            f"{share:.1%} of the images carry another label than when the bundle was built; "
            "check the label file or the folders."
        )
        yield Diagnosis(name="changed_labels", detail=detail, evidence={"share": share})


def _who_is_permuted(found: Relabelling, judged: JudgedModel) -> str:
    """Return the fault's name: the model agrees with the labels or with the teacher on the classes that change."""
    answers = judged.answers
    moved = answers.labelled & np.isin(answers.labels, [each for cycle in found.cycles for each in cycle])
    predicted = answers.predicted[moved]
    with_labels, with_teacher = predicted == answers.labels[moved], predicted == answers.expected[moved]
    return PERMUTED_REFERENCE if with_labels.sum() > with_teacher.sum() else SWAPPED_LABELS


def _describe_order(found: Relabelling, repair: Repair, name: str, names: tuple[str, ...]) -> Diagnosis:
    before, after = float(repair.before.mean()), float(repair.after.mean())
    gain = f"the teacher's accuracy is {after:.1%} in place of {before:.1%}"
    if name == PERMUTED_REFERENCE:
        detail = (
            f"The teacher's recorded answers are in another order of the classes: {found.describe(names)}. The model "
            f"and the labels agree with each other. With the answers put in order {gain}; export the bundle again."
        )
    else:
        detail = (
            f"The labels do not fit the teacher's recorded answers: {found.describe(names)}. With the labels in that "
            f"order {gain}; check the label file and the class names."
        )
    evidence = {"teacher_accuracy": before, "teacher_accuracy_repaired": after, "answered": found.answered(names)}
    return Diagnosis(name=name, detail=detail, evidence=evidence)


def _unknown_images(judged: JudgedModel) -> Iterator[Diagnosis]:
    unknown, known = judged.evaluation.unknown_count, len(judged.answers)
    if unknown > _MANY_UNKNOWN * (unknown + known):
        detail = (
            f"The teacher's answers are recorded for only {known} of the {unknown + known} images given; the others "
            "are none of those the bundle was judged on. Give the split it was built with, or no images to use the "
            "recorded ones."
        )
        yield Diagnosis(name="unknown_images", detail=detail, evidence={"known": known, "unknown": unknown})
