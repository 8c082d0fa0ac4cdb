"""Faults that show in the logits of the golden inputs, against the logits that were recorded for them.

The file should give the recorded numbers. How the numbers differ tells what happened: the same numbers in another order
of the classes, one class raised for every image, a Softmax, or a record of another model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.expectation import expectation_role, inputs_digest, read_expectation
from edgedistill_deploy.bundle.precisions import computes_in, model_role
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.diagnosis._judged_model import Images, JudgedModel
from edgedistill_deploy.diagnosis._relabelling import Relabelling, relabelling_of
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.evaluation.figures import Logits, count_lost_and_gained, log_softmax
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_as_written, open_model
from edgedistill_deploy.statistics.assignment import best_assignment
from edgedistill_deploy.statistics.paired import drop_interval

# Error of sound files against the recorded logits, relative to their spread: fp32 below 1e-3, INT8 up to 0.1.
_SAME = {"fp32": 0.02, "fp16": 0.05, "int8": 0.15}
_SAME_FILE = 0.05  # against the file's own record
_EXPLAINED = 0.35  # share of the error that may remain once a fault is undone
_ALSO_MOVED = 0.15  # of the largest shift: a bias of an earlier layer shifts every class
_SHARE = 1e-3  # by which probabilities may miss a sum of 1
# Accuracy that a model with stale recorded outputs may lack against its teacher: surely, and at most.
_KEPT, _MOST_LOST = 0.02, 0.05
_IMAGES = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Record:
    """Inputs with the logits of the file, given here and wanted; `same` is the error of a sound file.

    Without a record the wanted ones are those of the float file in the same bundle.
    """

    inputs: Images
    given: Logits
    wanted: Logits
    same: float
    is_recorded: bool

    @property
    def error(self) -> float:
        return relative_difference(self.given, self.wanted)


def find_output_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield a fault behind the last layer: a Softmax, another order of the classes, or one class raised or lowered."""
    record = _read_record(judged)
    if record is None or record.error <= record.same:
        return
    if _is_softmax(record.given) and not _is_softmax(record.wanted):
        yield _describe_softmax(record)
    elif found := _find_order(record):
        yield from _describe_permutation(judged, found)
    else:
        yield from _find_shift(judged, record)


def find_stale_outputs(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield the reason why a file without another fault does not give the recorded logits.

    If the file computed node by node gives them, the runtime is at fault. If the file is as accurate as it should be,
    the record is not of this file. Otherwise nothing is known.
    """
    record = _read_record(judged)
    if record is None or not record.is_recorded or record.error <= record.same:
        return
    file, evidence = judged.session.model_path.name, {"relative_error": record.error}
    if _as_written_agrees(judged, record):
        detail = (
            f"Computed node by node, {file} gives the recorded outputs, and optimised by {judged.session.runtime} it "
            "does not: the runtime computes another function. Try another version of it, or another provider."
        )
        yield Diagnosis(name="other_function", detail=detail, evidence=evidence)
    elif _is_as_good(judged):
        detail = (
            f"The recorded outputs are not of {file}: they differ by {record.error:.0%} of their size, and the file "
            "answers the evaluation images as well as it should. Export the bundle again, so that file and record "
            "belong together."
        )
        yield Diagnosis(name="stale_outputs", detail=detail, evidence=evidence)


def reproduces_recorded(judged: JudgedModel, precision: str) -> bool | None:
    """Say whether the bundle's file of another precision gives the recorded logits; None if that cannot be told."""
    if not judged.bundle.has("golden"):
        return None
    inputs, wanted = read_golden(judged.bundle.file("golden"))
    try:
        with open_model(judged.bundle.file(model_role(precision)), precision=precision, threads=1) as session:
            return relative_difference(raw_logits(session, inputs), wanted) <= _SAME[computes_in(precision)]
    except EdgeDistillError:
        return None


def relative_difference(given: Logits, wanted: Logits) -> float:
    """Return the root mean square of the difference of logits (n, C), relative to the spread of the wanted ones.

    A constant added to all classes of an image changes nothing and is left out. It is infinite for other shapes and
    for numbers that are not finite.
    """
    if given.shape != wanted.shape or not np.isfinite(given).all():
        return float("inf")
    ours, theirs = _centred(given), _centred(wanted)
    return float(np.linalg.norm(ours - theirs)) / max(float(np.linalg.norm(theirs)), 1e-12)


def _read_record(judged: JudgedModel) -> _Record | None:
    """Return what the file should give: its own recorded logits, the student's, or those of the float file here.

    None for the teacher's file, without any of these, or in another shape.
    """
    found = None if judged.session.precision == "teacher" else _find_wanted(judged)
    if found is None:
        return None
    inputs, wanted, same = found
    given = raw_logits(judged.session, inputs)
    if given.shape != wanted.shape or wanted.shape[1] < 2:
        return None
    return _Record(inputs=inputs, given=given, wanted=wanted, same=same, is_recorded=judged.bundle.has("golden"))


def _find_wanted(judged: JudgedModel) -> tuple[Images, Logits, float] | None:
    """Return inputs, the logits that are wanted for them, and the relative error of a sound file."""
    session, bundle = judged.session, judged.bundle
    same = _SAME[computes_in(session.precision)]
    if not bundle.has("golden"):
        return _ask_float_file(judged, same)
    inputs, outputs = read_golden(bundle.file("golden"))
    role = expectation_role(bundle.role_for(session.precision, session.runtime))
    if role != "golden" and bundle.has(role):
        expected = read_expectation(bundle.file(role))
        if expected.inputs_sha256 == inputs_digest(inputs):
            return inputs, expected.outputs, _SAME_FILE
    return inputs, outputs, same


def _ask_float_file(judged: JudgedModel, same: float) -> tuple[Images, Logits, float] | None:
    role = model_role("fp32")
    if judged.session.precision == "fp32" or not judged.bundle.has(role):
        return None
    images = judged.evaluation.images(judged.evaluation.spread(_IMAGES))
    try:
        with open_model(judged.bundle.file(role), precision="fp32", threads=1) as exact:
            return images, raw_logits(exact, images), same
    except EdgeDistillError:
        return None


def _centred(logits: Logits) -> NDArray[np.float64]:
    wide: NDArray[np.float64] = logits.astype(np.float64)
    centred: NDArray[np.float64] = wide - wide.mean(axis=1, keepdims=True)
    return centred


def _is_softmax(logits: Logits) -> bool:
    return bool((logits >= 0).all() and (np.abs(logits.sum(axis=1) - 1) <= _SHARE).all())


def _describe_softmax(record: _Record) -> Diagnosis:
    error = float(np.abs(record.given - np.exp(log_softmax(record.wanted))).max())
    detail = (
        "The file gives probabilities in place of logits: the outputs of every image sum to 1. Remove the Softmax "
        "behind the last layer; whoever reads logits computes it again."
    )
    return Diagnosis(name="softmax_behind_logits", detail=detail, evidence={"largest_difference": error})


def _find_order(record: _Record) -> Relabelling | None:
    """Return the order of the classes in which the logits are the recorded ones."""
    given, wanted = record.given, record.wanted
    if not np.isfinite(given).all():
        return None
    ours, theirs = _centred(given), _centred(wanted)
    distances = np.square(theirs[:, :, None] - ours[:, None, :]).sum(axis=0)
    answer_for = best_assignment(-distances)
    remains = relative_difference(given[:, answer_for], wanted)
    return relabelling_of(answer_for) if remains <= record.same else None


def _describe_permutation(judged: JudgedModel, found: Relabelling) -> Iterator[Diagnosis]:
    """Say that the file answers in another order, unless the images show that the record does."""
    names, answers = judged.bundle.class_names, judged.answers
    put_right = found.repair(answers.expected, answers.predicted)
    if put_right.after.sum() <= put_right.before.sum():
        return
    detail = (
        f"The model answers in another order of the classes: {found.describe(names)}. In that order its logits are "
        "what they should be; check the order of the class names."
    )
    yield Diagnosis(name="permuted_classes", detail=detail, evidence={"answered": found.answered(names)})


def _find_shift(judged: JudgedModel, record: _Record) -> Iterator[Diagnosis]:
    """Find the same difference for every image: a bias that was changed."""
    given, wanted = record.given, record.wanted
    difference = given.astype(np.float64) - wanted
    if not np.isfinite(difference).all():
        return
    shift = np.median(difference, axis=0)
    shift = shift - np.median(shift)
    remains = relative_difference((given - shift).astype(np.float32), wanted)
    moved = np.flatnonzero(np.abs(shift) > _ALSO_MOVED * np.abs(shift).max())
    names = judged.bundle.class_names
    if remains <= min(record.same, _EXPLAINED * record.error) and 2 * len(moved) <= len(names):
        listed = ", ".join(f"{names[place]!r} by {shift[place]:+.3g}" for place in moved[:5])
        detail = (
            f"The logits are what they should be, but for every image the same is added to some classes: {listed}. A "
            "bias was changed; export the model again."
        )
        evidence = {"added": {names[place]: float(shift[place]) for place in moved}}
        yield Diagnosis(name="shifted_logits", detail=detail, evidence=evidence)


def _as_written_agrees(judged: JudgedModel, record: _Record) -> bool:
    try:
        with open_as_written(judged.session) as written:
            return relative_difference(raw_logits(written, record.inputs), record.wanted) <= record.same
    except EdgeDistillError:
        return False


def _is_as_good(judged: JudgedModel) -> bool:
    """Say whether the model is right about as often as its teacher."""
    truth, answers = judged.truth, judged.answers
    lost, gained = count_lost_and_gained(answers.expected == truth, answers.predicted == truth)
    low, _ = drop_interval(lost, gained, len(truth), judged.confidence)
    return low <= _KEPT and (lost - gained) <= _MOST_LOST * len(truth)
