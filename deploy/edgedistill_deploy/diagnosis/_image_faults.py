"""Faults of the images and labels that a check was given; looked for always, since a wrong label hides a wrong
model."""

from collections.abc import Iterator

import numpy as np

from edgedistill_deploy.diagnosis._judged_model import JudgedModel
from edgedistill_deploy.diagnosis._relabelling import Relabelling, find_relabelling
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.statistics.paired import drop_interval

SWAPPED_LABELS = "swapped_labels"
_MANY_UNKNOWN = 0.5
_MANY_CONFLICTS = 0.1


def find_image_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield what is wrong with the images or their labels."""
    yield from _find_swapped_labels(judged)
    yield from _unknown_images(judged)


def _find_swapped_labels(judged: JudgedModel) -> Iterator[Diagnosis]:
    """The teacher recorded its answers long ago: where these fit another order of the labels, the labels are at
    fault."""
    answers = judged.answers
    rows = answers.labelled
    found = find_relabelling(answers.labels[rows], answers.expected[rows], answers.teacher.shape[1])
    if found is not None and _improves(found, judged):
        before = float(np.mean(answers.expected[rows] == answers.labels[rows]))
        after = float(np.mean(found.undo(answers.expected[rows]) == answers.labels[rows]))
        detail = (
            f"The labels do not fit the teacher's recorded answers: {found.describe(judged.bundle.class_names)}. With "
            f"the labels in that order the teacher's accuracy is {after:.1%} in place of {before:.1%}; check the label "
            "file and the class names."
        )
        evidence = {
            "teacher_accuracy": before,
            "teacher_accuracy_repaired": after,
            **_list_moved_classes(found, judged),
        }
        yield Diagnosis(name=SWAPPED_LABELS, detail=detail, evidence=evidence)
    elif judged.evaluation.conflict_count > _MANY_CONFLICTS * len(answers):
        share = judged.evaluation.conflict_count / len(answers)
        detail = (
            f"{share:.1%} of the images carry another label than when the bundle was built; "
            "check the label file or the folders."
        )
        yield Diagnosis(name="changed_labels", detail=detail, evidence={"share": share})


def _improves(found: Relabelling, judged: JudgedModel) -> bool:
    answers, rows = judged.answers, judged.answers.labelled
    before = answers.expected[rows] == answers.labels[rows]
    after = found.undo(answers.expected[rows]) == answers.labels[rows]
    gained, lost = int(np.sum(after & ~before)), int(np.sum(before & ~after))
    low, _ = drop_interval(gained, lost, len(before), judged.confidence)
    return low > 0


def _list_moved_classes(found: Relabelling, judged: JudgedModel) -> dict[str, dict[str, str]]:
    names = judged.bundle.class_names
    moved = np.flatnonzero(found.answer_for != np.arange(len(names)))
    return {"answered": {names[place]: names[found.answer_for[place]] for place in moved}}


def _unknown_images(judged: JudgedModel) -> Iterator[Diagnosis]:
    unknown, known = judged.evaluation.unknown_count, len(judged.answers)
    if unknown > _MANY_UNKNOWN * (unknown + known):
        detail = (
            f"The teacher's answers are recorded for only {known} of the {unknown + known} images given; the others "
            "are none of those the bundle was judged on. Give the split it was built with, or no images to use the "
            "recorded ones."
        )
        yield Diagnosis(name="unknown_images", detail=detail, evidence={"known": known, "unknown": unknown})
