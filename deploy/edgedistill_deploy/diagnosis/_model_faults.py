"""Faults of a failed model or of its input."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._input_faults import find_input_fault
from edgedistill_deploy.diagnosis._judged_model import Detector, JudgedModel
from edgedistill_deploy.diagnosis._quantisation_faults import find_quantisation_fault
from edgedistill_deploy.diagnosis._recorded_outputs import find_output_fault, find_stale_outputs
from edgedistill_deploy.diagnosis._relabelling import find_permutation
from edgedistill_deploy.diagnosis._sibling_files import find_damaged_scales, find_foreign_weights
from edgedistill_deploy.diagnosis._undoing import find_undoable_fault
from edgedistill_deploy.diagnosis.runtime_faults import find_runtime_fault
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.records.parity import Diagnosis

_CONSTANT = 0.95  # share of the images answered with one class
_OUTLIER = 100  # times the second largest weight of a tensor: trained weights stay below 10
_FEW = 8  # weights


def find_model_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield what is seen in the file; without that, the first explanation that fits.

    What is seen needs no accuracy: the values of the first layer, the weights, the recorded logits. A fault that is
    only recognised by a gain in accuracy is not looked for if no accuracy was lost.
    """
    found: list[Diagnosis] = []
    for detectors in (_SEEN, _LOST if judged.has_lost else (), (find_stale_outputs,)):
        for detector in detectors:
            found = found or list(detector(judged))
    yield from found


def _find_recovered(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Try other orders of the classes and images that undo a fault; yield what brings more back."""
    found = [*_find_permuted_classes(judged), *find_undoable_fault(judged)]
    yield from sorted(found, key=lambda each: -float(each.evidence["recovered"]))[:1]


def _find_permuted_classes(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Take the teacher's answers as the truth, so that wrong labels do not look like a wrong model."""
    answers, names = judged.answers, judged.bundle.class_names
    found = find_permutation(answers.expected, answers.predicted, len(names), judged.confidence)
    if found is not None:
        order, repair = found
        detail = (
            f"The model answers in another order of the classes: {order.describe(names)}. With the order put right it "
            f"agrees with the teacher on {repair.after.mean():.1%} of the images in place of "
            f"{repair.before.mean():.1%}; check the order of the class names."
        )
        evidence = {
            "agreement": float(repair.before.mean()),
            "agreement_repaired": float(repair.after.mean()),
            "answered": order.answered(names),
            "recovered": repair.recovered,
        }
        yield Diagnosis(name="permuted_classes", detail=detail, evidence=evidence)


def _find_equal_logits(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Recognise that no image changes the logits at all. Coarse quantisation never does that."""
    candidate = judged.answers.candidate
    if len(candidate) > 1 and (candidate == candidate[0]).all():
        yield from _find_constant_answers(judged)


def _find_constant_answers(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Recognise one class for nearly all images, where the teacher has several."""
    answers, names = judged.answers, judged.bundle.class_names
    counts = np.bincount(answers.predicted[answers.predicted >= 0], minlength=len(names))
    most = int(counts.argmax())
    share = counts[most] / len(answers)
    wanted = float(np.mean(answers.expected == most))
    if share >= _CONSTANT and wanted < share / 2:
        detail = (
            f"The model answers {names[most]!r} for {share:.1%} of the images, the teacher for {wanted:.1%}: the image "
            "hardly reaches the answer. Look for a damaged weight, or an input in another range than the model was "
            "trained on."
        )
        evidence = {"class": names[most], "share": float(share), "teacher_share": wanted}
        yield Diagnosis(name="constant_answers", detail=detail, evidence=evidence)


def _find_damaged_weights(judged: JudgedModel) -> Iterator[Diagnosis]:
    for name, values in read_weights(judged.session.model_path):
        if values.dtype.kind != "f" or values.size < _FEW:
            continue
        problem = _describe_damage(values)
        if problem:
            file = judged.session.model_path.name
            detail = f"The weight {name} of {file} is damaged: {problem}. Export the model again."
            yield Diagnosis(name="damaged_weight", detail=detail, evidence={"weight": name, "problem": problem})


def _describe_damage(values: NDArray[np.floating]) -> str:
    """Describe values that training never gives a weight; empty for a sound weight."""
    broken = int(np.sum(~np.isfinite(values)))
    if broken:
        return f"{broken} of its {values.size} values {'is' if broken == 1 else 'are'} not finite"
    if values.ndim < 2:  # all values of a bias but one may be zero
        return ""
    sizes = np.abs(values, dtype=np.float64).ravel()
    second, largest = np.partition(sizes, -2)[-2:]
    if largest == 0:
        return f"all its {values.size} values are zero"
    if second == 0:
        return f"all but one of its {values.size} values are zero"
    if largest > _OUTLIER * second:
        return f"one value, {values.ravel()[sizes.argmax()]:.3g}, is {largest / second:.3g} times the next largest"
    return ""


# In this order, the first that finds something. A damaged number explains everything behind it, and saturation all that
# looks like a bad file. Input and output faults are looked for before the weights, because they tell more.
_SEEN: tuple[Detector, ...] = (
    _find_damaged_weights,
    find_runtime_fault,
    find_input_fault,
    find_output_fault,
    find_foreign_weights,
    find_damaged_scales,
)
_LOST: tuple[Detector, ...] = (_find_recovered, _find_equal_logits, find_quantisation_fault, _find_constant_answers)
