"""Checks of the teacher's recorded answers: every verdict rests on them, so they are not simply believed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.bundle.reference import Reference, read_golden
from edgedistill_deploy.diagnosis.faults import REFERENCE_AT_CHANCE
from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.evaluation.figures import Answers, Logits, log_softmax, predicted_classes
from edgedistill_deploy.evaluation.images import Evaluation
from edgedistill_deploy.images.golden import LIMIT_NAMES
from edgedistill_deploy.parity.consistency import compare_names, named_classes
from edgedistill_deploy.records.parity import Accuracy, Check, NotChecked
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.session import Session
from edgedistill_deploy.statistics.chance import compare_with_chance
from edgedistill_deploy.statistics.paired import wilson_interval
from edgedistill_deploy.wording import percent, percent_interval

REFERENCE_NAMES, TEACHER_REFERENCE = "reference_names", "teacher_reference"

_SAMPLE, _SEED, _BATCH = 64, 0, 16

# Largest allowed error of the teacher's file against its recorded answers, relative to the largest of its logits. The
# answers were computed in float32 on a processor: there ONNX Runtime stays below 1e-5. Elsewhere a runtime may multiply
# in TF32, which stays below 1e-2. Another teacher's answers are tens of percent away.
_ON_PROCESSOR, _ELSEWHERE = 1e-3, 2e-2

_SHIFTS = (1, -1, 2, -2)  # rows that images and answers may have slipped

_SURE = 0.99  # the teacher's softmax output from which its answer counts as sure
_FAR_BETTER = 0.1  # by so much, a student may not be the student of this teacher
_FEW_CONTRADICTED = 0.05  # of the sure answers; overconfident teachers are wrong as often as this


def with_reference_checks(bundle: Bundle, evaluation: Evaluation, open_teacher: Callable[[], Session]) -> Evaluation:
    """Return the images with the checks of their recorded answers, which are made once for all models of a bundle.

    `open_teacher` opens the teacher's file with the runtime asked for; it is called if the bundle has the file.
    """
    checks = (_names_check(bundle, evaluation.recorded), _teacher_check(bundle, evaluation.recorded, open_teacher))
    return replace(evaluation, checks=(*evaluation.checks, *checks))


def _names_check(bundle: Bundle, recorded: Reference) -> Check | NotChecked:
    if recorded.class_names is None:
        detail = "Not checked, because the reference does not name its classes; export again."
        return NotChecked(name=REFERENCE_NAMES, detail=detail)
    compared = [
        compare_names(REFERENCE_NAMES, "The reference", tuple(map(str, recorded.class_names)), bundle.class_names),
        *(
            compare_names(REFERENCE_NAMES, path.name, names, bundle.class_names)
            for path in _model_files(bundle)
            if (names := named_classes(path)) is not None
        ),
    ]
    return next((each for each in compared if not each.passed), compared[0])


def _model_files(bundle: Bundle) -> Iterator[Path]:
    """Yield the models that are here: of all of the bundle's precisions, not only of those that are judged."""
    for role in map(model_role, bundle.precisions):
        if _is_here(bundle, role):
            yield bundle.file(role)


# --- the teacher's file against its recorded answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Recorded:
    """Prepared images (n, H, W, 3): their places (n,) in a file, the row of the teacher's answer to each place of that
    file, and what images they are."""

    images: NDArray[np.uint8]
    places: NDArray[np.int64]
    row_of: NDArray[np.int64]
    what: str

    def rows(self, offset: int = 0) -> NDArray[np.int64]:
        """Return the row (n,) of the recorded answer to each image, or to the one so many places later."""
        return self.row_of[(self.places + offset) % len(self.row_of)]


def _teacher_check(bundle: Bundle, recorded: Reference, open_teacher: Callable[[], Session]) -> Check | NotChecked:
    if not _is_here(bundle, model_role("teacher")):
        return _teacher_unchecked("the teacher's file is not in this bundle")
    parts = [*_golden_part(bundle, recorded), *_sampled_part(recorded)]
    if not parts:
        return _teacher_unchecked("the reference does not record the images that the teacher answered")
    try:
        with open_teacher() as session:
            given = np.concatenate([_ask(session, part.images) for part in parts])
            relative = _ON_PROCESSOR if session.provider == "cpu" else _ELSEWHERE
    except BundleError:
        raise
    except EdgeDistillError as error:
        return _teacher_unchecked(f"the teacher's file cannot be run here. {error}")
    # By the logits of the file: an enormous recorded one must not excuse the others.
    tolerance = relative * float(np.abs(given).max(initial=0.0)) + 1e-6
    what = " and ".join(part.what for part in parts)
    start = f"{bundle.file(model_role('teacher')).name} on {what}"
    return _compare(given, lambda offset: _recorded_answers(recorded, parts, offset), tolerance, start)


def _teacher_unchecked(reason: str) -> NotChecked:
    ending = "" if reason.endswith(".") else "."
    return NotChecked(name=TEACHER_REFERENCE, detail=f"Not checked, because {reason}{ending}")


def _is_here(bundle: Bundle, role: str) -> bool:
    """Return whether a role's file exists; a device has the whole manifest, but only the files that it needs."""
    entry = bundle.manifest["files"].get(role)
    return entry is not None and (bundle.path / str(entry["path"])).exists()


def _golden_part(bundle: Bundle, recorded: Reference) -> Iterator[_Recorded]:
    if recorded.golden_index is None or not bundle.has("golden"):
        return
    inputs, _ = read_golden(bundle.file("golden"))
    known = len(recorded.golden_index)
    if len(inputs) not in (known, known + len(LIMIT_NAMES)):  # the teacher did not answer images at the limits
        raise BundleError(
            f"golden.npz of {bundle.path} has {len(inputs)} inputs, but the reference knows {known}; export it again."
        )
    places, what = np.arange(known), f"{known} golden images"
    yield _Recorded(images=inputs[:known], places=places, row_of=recorded.golden_index, what=what)


def _sampled_part(recorded: Reference) -> Iterator[_Recorded]:
    if recorded.images is None:
        return
    count = len(recorded.images)
    chosen = np.sort(np.random.default_rng(_SEED).choice(count, min(count, _SAMPLE), replace=False))
    what = f"{len(chosen)} of {count} recorded images"
    yield _Recorded(images=recorded.images[chosen], places=chosen, row_of=recorded.image_index, what=what)


def _ask(session: Session, images: NDArray[np.uint8]) -> Logits:
    batches = range(0, len(images), _BATCH)
    return np.concatenate([raw_logits(session, images[start : start + _BATCH]) for start in batches])


def _recorded_answers(recorded: Reference, parts: Sequence[_Recorded], offset: int = 0) -> Logits:
    rows = np.concatenate([part.rows(offset) for part in parts])
    answers: Logits = recorded.logits[rows]
    return answers


def _compare(given: Logits, recorded: Callable[[int], Logits], tolerance: float, start: str) -> Check:
    """Compare the file's answers with those recorded, `recorded(0)`, or at places so much later, `recorded(offset)`."""
    wanted = recorded(0)
    if given.shape != wanted.shape or not np.isfinite(given).all():
        detail = f"{start}: the logits are not finite, or are of another shape than the recorded ones; export again."
        return Check(name=TEACHER_REFERENCE, passed=False, detail=detail)
    errors = _row_errors(given, wanted)
    wrong = int(np.sum(errors > tolerance))
    size = f"largest error {errors.max():.3g}, tolerance {tolerance:.3g}"
    if not wrong:
        return Check(name=TEACHER_REFERENCE, passed=True, detail=f"{start} gives the recorded answers: {size}.")
    other = int(np.sum(predicted_classes(given) != predicted_classes(wanted)))
    shift = next((step for step in _SHIFTS if np.mean(_row_errors(given, recorded(step)) <= tolerance) > 0.5), 0)
    detail = (
        f"{start}: {wrong} of {len(given)} answers are not the recorded ones ({size}), and {other} name another class. "
        f"{_describe_shift(shift)}"
    )
    return Check(name=TEACHER_REFERENCE, passed=False, detail=detail)


def _row_errors(given: Logits, wanted: Logits) -> NDArray[np.float64]:
    errors: NDArray[np.float64] = np.abs(given.astype(np.float64) - wanted).max(axis=1)
    return errors


def _describe_shift(shift: int) -> str:
    if not shift:
        return "The reference holds answers of another teacher, to other images, or changed ones; export again."
    way = "later" if shift > 0 else "earlier"
    rows = f"{abs(shift)} row{'s' if abs(shift) > 1 else ''}"
    return f"Most are recorded {rows} {way}: images and answers were shifted against each other; export again."


# --- the teacher's answers against the labels


def chance_left_open(answers: Answers, confidence: float) -> tuple[NotChecked, ...]:
    """Say why nobody can tell whether the teacher is better than chance; nothing where that can be told."""
    reason = _reason_for_open_chance(answers, confidence)
    detail = f"Not checked, because {reason}"
    return (NotChecked(name=REFERENCE_AT_CHANCE, detail=detail),) if reason else ()


def _reason_for_open_chance(answers: Answers, confidence: float) -> str:
    labels, expected = answers.labels[answers.labelled], answers.expected[answers.labelled]
    if not len(labels):
        return "no image has a label, and only labels tell whether the teacher is better than chance."
    if len(np.unique(labels)) == 1:
        return f"all {len(labels)} labelled images are of one class, and there chance cannot be told from skill."
    found = compare_with_chance(labels, expected, confidence)
    if found.standing != "undecided":
        return ""
    return (
        f"{len(labels)} labelled images are too few: the teacher's accuracy is {percent(found.accuracy)}, its interval "
        f"{percent_interval(found.interval)}, and chance gives {percent(found.chance)}."
    )


def reference_notes(evaluation: Evaluation, answers: Answers, accuracy: Accuracy) -> tuple[str, ...]:
    """Say what speaks against the recorded answers or the labels and proves nothing."""
    return (
        *_contradicted_labels_note(evaluation, answers, accuracy.confidence),
        *_better_than_teacher_note(evaluation, accuracy),
    )


def _better_than_teacher_note(evaluation: Evaluation, accuracy: Accuracy) -> tuple[str, ...]:
    """Doubt a teacher that is far worse than its student, unless the teacher's file gave the recorded answers."""
    proved = any(each.name == TEACHER_REFERENCE and isinstance(each, Check) for each in evaluation.checks)
    if proved or accuracy.interval[1] > -_FAR_BETTER:
        return ()
    sentence = (
        f"The model is right on {percent(accuracy.candidate)} of the images and its teacher on "
        f"{percent(accuracy.teacher)}: a student is seldom so much better, so look whether the recorded answers are "
        "its teacher's."
    )
    return (sentence,)


def _contradicted_labels_note(evaluation: Evaluation, answers: Answers, confidence: float) -> tuple[str, ...]:
    """Say that many labels contradict a teacher that is sure of its answer; no sentence if few do."""
    top = np.exp(log_softmax(answers.teacher).max(axis=1))
    sure = answers.labelled & (top >= _SURE)
    contradicted = sure & (answers.expected != answers.labels)
    count, total = int(contradicted.sum()), int(sure.sum())
    if wilson_interval(count, total, confidence)[0] <= _FEW_CONTRADICTED:
        return ()
    named = ", ".join(evaluation.name(int(row)) for row in np.flatnonzero(contradicted)[:3])
    sentence = (
        f"The teacher is sure of its answer (softmax {_SURE} or more) on {total} of {int(answers.labelled.sum())} "
        f"labelled images, and {count} of these have another label, for example {named}: either these labels are "
        "wrong, or the teacher is too sure."
    )
    return (sentence,)
