"""Faults of the images and labels of a check. They are always looked for, because a wrong label hides a wrong model."""

from collections.abc import Iterator

import numpy as np

from edgedistill_deploy.diagnosis._judged_model import JudgedModel, Repair
from edgedistill_deploy.diagnosis._relabelling import Relabelling, find_relabelling
from edgedistill_deploy.evaluation.figures import Answers, Logits, predicted_classes
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.statistics.chance import compare_with_chance
from edgedistill_deploy.wording import percent, percent_interval

SWAPPED_LABELS, PERMUTED_REFERENCE = "swapped_labels", "permuted_reference"
SHIFTED_ROWS, REFERENCE_AT_CHANCE = "shifted_rows", "reference_at_chance"
# With one of these nothing can be judged, at any accuracy of the model.
WORTHLESS_REFERENCE = frozenset({SWAPPED_LABELS, PERMUTED_REFERENCE, SHIFTED_ROWS, REFERENCE_AT_CHANCE})
_SHIFTS = (1, -1, 2, -2)
_ALIKE = 0.2  # correlation; unrelated logits stay far below it
_MANY_UNKNOWN = 0.5
_MANY_CONFLICTS = 0.1


def find_image_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the faults of the images and of their labels."""
    found = [*_find_swapped_labels(judged), *_find_shifted_rows(judged)]
    yield from found
    if WORTHLESS_REFERENCE.isdisjoint(each.name for each in found):
        yield from _find_chance(judged)
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


def _find_shifted_rows(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Compare images and labels with the recorded answers to the images some rows further on."""
    answers = judged.answers
    for what, given in (("images", answers.predicted), ("labels", answers.labels)):
        known = given >= 0
        for shift in _SHIFTS if known.any() else ():
            repair = Repair(
                before=given[known] == answers.expected[known],
                after=given[known] == np.roll(answers.expected, shift)[known],
                target=np.ones(int(known.sum()), dtype=np.bool_),
            )
            if not repair.convinces(1 - (1 - judged.confidence) / len(_SHIFTS), 0.5):
                continue
            order = find_relabelling(answers.expected[known], given[known], answers.teacher.shape[1])
            if order is None or (what == "images" and _follows_rows(answers, shift, order)):
                yield _describe_shift(what, shift, repair)
                return


def _follows_rows(answers: Answers, shift: int, order: Relabelling) -> bool:
    """Tell a shift from another order of the classes, which look alike where the classes take turns.

    Within a class, the model's logits go up and down with the teacher's to the same image.
    """
    known = answers.predicted >= 0
    moved = np.roll(answers.teacher, shift, axis=0)[known]
    shifted = _likeness_within_classes(answers.candidate[known], moved)
    ordered = _likeness_within_classes(answers.candidate[known][:, order.answer_for], answers.teacher[known])
    return shifted > max(ordered, _ALIKE)


def _likeness_within_classes(given: Logits, teacher: Logits) -> float:
    """Correlate logits (n, C) with the teacher's after taking away their means in each of the teacher's classes."""
    classes = predicted_classes(teacher)
    rest = np.concatenate([given, teacher], axis=1).astype(np.float64)
    for each in np.unique(classes):
        rest[classes == each] -= rest[classes == each].mean(axis=0)
    one, other = np.split(rest, 2, axis=1)
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.sum(one * other)) / size if size > 0 else 0.0


def _describe_shift(what: str, shift: int, repair: Repair) -> Diagnosis:
    before, after = float(repair.before.mean()), float(repair.after.mean())
    rows = f"{abs(shift)} row{'s' if abs(shift) > 1 else ''}"
    whose = "The model's answers to the recorded images" if what == "images" else "The labels"
    detail = (
        f"{whose} agree with the teacher's recorded answers on {before:.1%} of the images, but on {after:.1%} with the "
        f"answers {rows} {'earlier' if shift > 0 else 'later'}: the {what} of the reference were shifted against the "
        "answers; export again."
    )
    evidence = {"shifted": what, "rows": shift, "agreement": before, "agreement_repaired": after}
    return Diagnosis(name=SHIFTED_ROWS, detail=detail, evidence=evidence)


def _find_chance(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Compare the teacher's accuracy with what its answers would reach on labels in random order."""
    answers = judged.answers
    if not answers.labelled.any():
        return
    labels, expected = answers.labels[answers.labelled], answers.expected[answers.labelled]
    found = compare_with_chance(labels, expected, judged.confidence)
    if found.standing == "at_chance":
        detail = (
            f"The teacher is right on {percent(found.accuracy)} of the {found.size} labelled images (interval "
            f"{percent_interval(found.interval)}), which is not better than chance, {percent(found.chance)}. Are the "
            "labels in the order of the teacher's outputs, and does the teacher know these classes?"
        )
        evidence = {"teacher_accuracy": found.accuracy, "interval": list(found.interval), "chance": found.chance}
        yield Diagnosis(name=REFERENCE_AT_CHANCE, detail=detail, evidence=evidence)


def _unknown_images(judged: JudgedModel) -> Iterator[Diagnosis]:
    unknown, known = judged.evaluation.unknown_count, len(judged.answers)
    if unknown > _MANY_UNKNOWN * (unknown + known):
        detail = (
            f"The teacher's answers are recorded for only {known} of the {unknown + known} images given; the others "
            "are none of those the bundle was judged on. Give the split it was built with, or no images to use the "
            "recorded ones."
        )
        yield Diagnosis(name="unknown_images", detail=detail, evidence={"known": known, "unknown": unknown})
