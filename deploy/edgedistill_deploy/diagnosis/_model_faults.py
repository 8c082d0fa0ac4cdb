"""Faults of a failed model or of its input."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.diagnosis._input_faults import find_normalisation_fault, find_undoable_normalisation_fault
from edgedistill_deploy.diagnosis._judged_model import Detector, JudgedModel, percentages, repair_by
from edgedistill_deploy.diagnosis._quantisation_faults import find_quantisation_fault
from edgedistill_deploy.diagnosis._relabelling import find_relabelling
from edgedistill_deploy.diagnosis.saturation import find_saturating_kernels
from edgedistill_deploy.onnx_files.content import read_weights
from edgedistill_deploy.records.parity import Diagnosis

_CONSTANT = 0.95  # share of the images answered with one class
_LEAST_RECOVERED = 0.6
_OUTLIER = 100  # times the second largest weight of a tensor: trained weights stay below 10
_FEW = 8  # weights


def find_model_faults(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the faults with a sign of their own; without any, the first broader explanation that fits.

    Faults that are only recognised by a gain in accuracy are not looked for if no accuracy was lost.
    """
    found = [diagnosis for detector in _SEEN for diagnosis in detector(judged)]
    if judged.has_lost:
        found += [diagnosis for detector in _SPECIFIC for diagnosis in detector(judged)]
        for detector in _BROADER:
            found = found or list(detector(judged))
    yield from found


def _find_permuted_classes(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Take the teacher's answers as the truth, so that wrong labels do not look like a wrong model."""
    answers, names = judged.answers, judged.bundle.class_names
    found = find_relabelling(answers.expected, answers.predicted, len(names))
    if found is None:
        return
    repair = found.repair(answers.expected, answers.predicted)
    if repair.convinces(judged.confidence, _LEAST_RECOVERED):
        detail = (
            f"The model answers in another order of the classes: {found.describe(names)}. With the order put right it "
            f"agrees with the teacher on {repair.after.mean():.1%} of the images in place of "
            f"{repair.before.mean():.1%}; check the order of the class names."
        )
        evidence = {
            "agreement": float(repair.before.mean()),
            "agreement_repaired": float(repair.after.mean()),
            "answered": found.answered(names),
        }
        yield Diagnosis(name="permuted_classes", detail=detail, evidence=evidence)


def _find_swapped_channels(judged: JudgedModel) -> Iterator[Diagnosis]:
    repair = repair_by(judged, judged.session, lambda images: np.ascontiguousarray(images[..., ::-1]))
    if repair.convinces(judged.confidence, _LEAST_RECOVERED):
        detail = (
            f"Red and blue are swapped: fed blue before red, {percentages(repair)}; the model expects BGR, or "
            "something before it swaps the channels."
        )
        yield Diagnosis(name="swapped_channels", detail=detail, evidence=repair.evidence)


def _find_constant_answers(judged: JudgedModel) -> Iterator[Diagnosis]:
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


_SEEN: tuple[Detector, ...] = (find_normalisation_fault, _find_damaged_weights, find_saturating_kernels)
_SPECIFIC: tuple[Detector, ...] = (_find_permuted_classes, _find_swapped_channels)
_BROADER: tuple[Detector, ...] = (find_quantisation_fault, find_undoable_normalisation_fault, _find_constant_answers)
