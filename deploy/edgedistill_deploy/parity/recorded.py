"""What a file gave when it was made, against what it gives here; and finite logits at the limits of its input.

The accuracy alone cannot judge a file. A softmax behind the logits, other brightness or a bias leave most answers as
they were.
"""

from dataclasses import replace

import numpy as np

from edgedistill_deploy.bundle.expectation import expectation_role, inputs_digest, read_expectation
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.evaluation.figures import Answers, Logits, numeric_error
from edgedistill_deploy.images.golden import LIMIT_NAMES, limit_images
from edgedistill_deploy.records.model import TEACHER
from edgedistill_deploy.records.parity import GOLDEN_OUTPUTS, Check, NotChecked, Numeric
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_as_written
from edgedistill_deploy.runtimes.session import Session

_LIMITS, _GOLDEN = "limits_of_the_input", "golden"
# Largest allowed error against the recorded outputs of the fp32 student, relative to the largest of them. TF32 stays
# below 1e-2. INT8 differs by design, so without outputs of its own it is not judged by them.
_STUDENT_TOLERANCES = {"fp32": 2e-2, "fp16": 5e-2}


def compare_recorded(bundle: Bundle, session: Session, answers: Answers) -> tuple[Numeric, tuple[NotChecked, ...]]:
    """Compare a model with the outputs recorded for it; what could not be compared is named as not checked.

    The outputs are those of the file itself, see `bundle.expectation`. A bundle of an earlier version has only those of
    the student. The teacher's file is compared with its recorded answers, without a tolerance.
    """
    if session.precision == TEACHER:
        return replace(numeric_error(answers.candidate, answers.teacher, None), recorded_of="teacher"), ()
    if not bundle.has(_GOLDEN):
        none = Numeric(max_abs_error=None, cosine=None, tolerance=None, image_count=0)
        return none, _not_checked("the bundle has no golden inputs and outputs; export it again")
    inputs, outputs = read_golden(bundle.file(_GOLDEN))
    given = _compute_as_meant(session, inputs)
    role = expectation_role(bundle.role_for(session.precision, session.runtime))
    if role == _GOLDEN or not bundle.has(role):
        return _compare_with_student(session, given, outputs)
    expected = read_expectation(bundle.file(role))
    if expected.inputs_sha256 != inputs_digest(inputs):
        reason = f"the outputs of {session.model_path.name} were recorded for other golden inputs; calibrate it again"
        return replace(numeric_error(given, outputs, None)), _not_checked(reason)
    found = numeric_error(given, expected.outputs, None)
    return replace(found, tolerance=expected.tolerance, recorded_of="file"), ()


def check_limits(session: Session, size: tuple[int, int], class_count: int) -> Check:
    """Check that a model gives finite logits for images at the limits of its input, of `size` (H, W)."""
    try:
        logits = raw_logits(session, limit_images(size))
    except EdgeDistillError as error:
        return Check(name=_LIMITS, passed=False, detail=f"The runtime refused images at the limits: {error}")
    wanted = (len(LIMIT_NAMES), class_count)
    if logits.shape != wanted:
        detail = f"{len(LIMIT_NAMES)} images gave logits of shape {logits.shape} instead of {wanted}."
        return Check(name=_LIMITS, passed=False, detail=detail)
    broken = [name for name, row in zip(LIMIT_NAMES, logits, strict=True) if not np.isfinite(row).all()]
    detail = f"The logits are finite for {', '.join(LIMIT_NAMES)}."
    if broken:
        detail = (
            f"{session.model_path.name} gives logits that are not finite for an image of {' and of '.join(broken)}."
        )
    return Check(name=_LIMITS, passed=not broken, detail=detail)


def _compare_with_student(session: Session, given: Logits, outputs: Logits) -> tuple[Numeric, tuple[NotChecked, ...]]:
    tolerance = _STUDENT_TOLERANCES.get(session.precision)
    found = numeric_error(given, outputs, tolerance)
    if tolerance is not None:
        return found, ()
    reason = f"no outputs of {session.model_path.name} were recorded when it was made; calibrate it again"
    return found, _not_checked(reason)


def _compute_as_meant(session: Session, images: np.ndarray) -> Logits:
    """Return the logits of a session; those of the file where this processor's kernels are known to saturate.

    Such kernels have findings of their own, and the file is not at fault.
    """
    if session.int8_kernels != "saturating":
        return raw_logits(session, images)
    with open_as_written(session) as written:
        return raw_logits(written, images)


def _not_checked(reason: str) -> tuple[NotChecked, ...]:
    return (NotChecked(name=GOLDEN_OUTPUTS, detail=f"Not checked, because {reason}."),)
