"""INT8 kernels that saturate on this processor: the same file computes something else here than it means.

What a file means is what it computes node by node, as it is written: in float32, whatever the processor. The runtime's
fused kernels are compared with that on the golden images.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.diagnosis._judged_model import SAMPLE, Images, JudgedModel, Repair, percentages
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.evaluation.figures import predicted_classes
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.int8_kernels import is_probe_exact, probe_feeds, read_probe, saturation_sentence
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_model
from edgedistill_deploy.runtimes.session import Session

_IMAGES = 16
_LEAST_RECOVERED = 0.5
# Of the logits, root mean square. Rounding alone, fused against as written, reached a hundredth in an untrained
# network.
_TOLERANCE = 0.02


def find_saturating_kernels(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield whether the kernels saturate and the accuracy comes back when the file is computed as it is written."""
    error = _saturation_error(judged)
    if error is None or error <= _TOLERANCE:
        return
    repair = _repair_as_written(judged)
    if repair.convinces(judged.confidence, _LEAST_RECOVERED):
        detail = f"{saturation_sentence()} Computed as it is written, {percentages(repair)}."
        yield Diagnosis(name="saturating_kernels", detail=detail, evidence={**repair.evidence, "relative_error": error})


def saturation_notes(judged: JudgedModel) -> tuple[str, ...]:
    """Return the sentence that says how much saturation changes the answers; none where the kernels are exact."""
    error = _saturation_error(judged)
    if error is None:
        return ()
    return (f"{saturation_sentence()} On the golden images the logits are off by {error:.1%} of their size.",)


def _saturation_error(judged: JudgedModel) -> float | None:
    """Return the relative error of the fused logits; None where the kernels do not saturate or nothing can be
    compared."""
    session = judged.session
    if computes_in(session.precision) != "int8" or not _saturates(session):
        return None
    images = _images_of(judged)
    try:
        meant = _as_written(session, images)
    except EdgeDistillError:
        return None
    given = raw_logits(session, images)
    size = float(np.linalg.norm(meant))
    return float(np.linalg.norm(given - meant)) / size if size > 0 else None


def _saturates(session: Session) -> bool:
    """Say what the kernels do: ONNX Runtime's own are known, those of its other providers run the probe."""
    if session.runtime != "onnxruntime" or session.int8_kernels is not None:
        return session.int8_kernels == "saturating"
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(read_probe())
        try:
            with open_model(path, precision="int8", provider=session.provider, threads=1) as probe:
                return not is_probe_exact(probe.run(probe_feeds()))
        except EdgeDistillError:  # a provider that cannot run the probe tells nothing
            return False


def _images_of(judged: JudgedModel) -> Images:
    if judged.bundle.has("golden"):
        return read_golden(judged.bundle.file("golden"))[0][:_IMAGES]
    return judged.evaluation.images(judged.evaluation.spread(_IMAGES))


def _as_written(session: Session, images: Images) -> NDArray[np.float32]:
    with open_model(session.model_path, precision=session.precision, optimised=False) as written:
        return raw_logits(written, images)


def _repair_as_written(judged: JudgedModel) -> Repair:
    rows = judged.evaluation.spread(SAMPLE)
    truth = judged.truth[rows]
    with open_model(judged.session.model_path, precision="int8", optimised=False) as written:
        after = [predicted_classes(raw_logits(written, batch)) for batch in judged.evaluation.prepared(rows, 64)]
    return Repair(
        before=judged.answers.predicted[rows] == truth,
        after=np.concatenate(after) == truth,
        target=judged.answers.expected[rows] == truth,
    )
