"""Faults of the images and labels of a check. They are always looked for, because a wrong label hides a wrong model."""

from collections.abc import Iterator

from edgedistill_deploy.diagnosis._judged_model import JudgedModel
from edgedistill_deploy.diagnosis._relabelling import find_relabelling
from edgedistill_deploy.records.parity import Diagnosis

SWAPPED_LABELS = "swapped_labels"
_MANY_UNKNOWN = 0.5
_MANY_CONFLICTS = 0.1


def find_image_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the faults of the images and of their labels."""
    yield from _find_swapped_labels(judged)
    yield from _unknown_images(judged)


def _find_swapped_labels(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Compare the labels with the teacher's recorded answers: if these fit another order, the labels are wrong."""
    answers, names = judged.answers, judged.bundle.class_names
    labels, expected = answers.labels[answers.labelled], answers.expected[answers.labelled]
    found = find_relabelling(labels, expected, answers.teacher.shape[1])
    repair = found.repair(labels, expected) if found else None
    if found and repair and repair.convinces(judged.confidence, 0.0):
        before, after = float(repair.before.mean()), float(repair.after.mean())
        detail = (
            f"The labels do not fit the teacher's recorded answers: {found.describe(names)}. With the labels in that "
            f"order the teacher's accuracy is {after:.1%} in place of {before:.1%}; check the label file and the class "
            "names."
        )
        evidence = {"teacher_accuracy": before, "teacher_accuracy_repaired": after, "answered": found.answered(names)}
        yield Diagnosis(name=SWAPPED_LABELS, detail=detail, evidence=evidence)
    elif judged.evaluation.conflict_count > _MANY_CONFLICTS * len(answers):
        share = judged.evaluation.conflict_count / len(answers)
        detail = (
            f"{share:.1%} of the images carry another label than when the bundle was built; "
            "check the label file or the folders."
        )
        yield Diagnosis(name="changed_labels", detail=detail, evidence={"share": share})


def _unknown_images(judged: JudgedModel) -> Iterator[Diagnosis]:
    unknown, known = judged.evaluation.unknown_count, len(judged.answers)
    if unknown > _MANY_UNKNOWN * (unknown + known):
        detail = (
            f"The teacher's answers are recorded for only {known} of the {unknown + known} images given; the others "
            "are none of those the bundle was judged on. Give the split it was built with, or no images to use the "
            "recorded ones."
        )
        yield Diagnosis(name="unknown_images", detail=detail, evidence={"known": known, "unknown": unknown})
