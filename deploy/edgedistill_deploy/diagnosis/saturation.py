"""INT8 kernels that saturate on this processor: the file gives other results here than it should.

The right results are those of the graph as it is written, computed node by node in float32. The runtime's fused kernels
are compared with them on the golden images.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.bundle.reference import read_golden
from edgedistill_deploy.diagnosis._judged_model import Images, JudgedModel, percentages, repair_by
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.records.parity import Diagnosis
from edgedistill_deploy.runtimes.int8_kernels import is_probe_exact, probe_feeds, read_probe, saturation_sentence
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.opening import open_as_written, open_model
from edgedistill_deploy.runtimes.session import Session

_IMAGES = 16
_LEAST_RECOVERED = 0.5
# Relative error of the logits, root mean square. Rounding alone reached 0.01 in an untrained network.
_TOLERANCE = 0.02


def find_saturating_kernels(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield a fault if the kernels saturate and the graph as written brings the accuracy back."""
    error = _saturation_error(judged)
    if error is None or error <= _TOLERANCE:
        return
    with open_as_written(judged.session) as written:
        repair = repair_by(judged, written)
    if repair.convinces(judged.confidence, _LEAST_RECOVERED):
        detail = f"{saturation_sentence(judged.session.provider)} Computed as it is written, {percentages(repair)}."
        yield Diagnosis(name="saturating_kernels", detail=detail, evidence={**repair.evidence, "relative_error": error})


def saturation_notes(judged: JudgedModel) -> tuple[str, ...]:
    """Return a sentence on how much saturation changes the answers; none if the kernels are exact."""
    error = _saturation_error(judged)
    if error is None:
        return ()
    whose = saturation_sentence(judged.session.provider)
    return (f"{whose} On the golden images the logits are off by {error:.1%} of their size.",)


def _saturation_error(judged: JudgedModel) -> float | None:
    """Return the relative error of the fused logits; None if the kernels are exact or nothing can be compared."""
    session = judged.session
    if computes_in(session.precision) != "int8" or not _saturates(session):
        return None
    images = _images_of(judged)
    try:
        with open_as_written(session) as written:
            meant = raw_logits(written, images)
    except EdgeDistillError:
        return None
    given = raw_logits(session, images)
    size = float(np.linalg.norm(meant))
    return float(np.linalg.norm(given - meant)) / size if size > 0 else None


def _saturates(session: Session) -> bool:
    """Say whether the kernels saturate; ONNX Runtime's other providers must run a probe to find out."""
    if session.runtime != "onnxruntime" or session.int8_kernels is not None:
        return session.int8_kernels == "saturating"
    with tempfile.TemporaryDirectory(prefix="edgedistill-") as folder:
        path = Path(folder) / "probe.onnx"
        path.write_bytes(read_probe())
        try:
            with open_model(path, precision="int8", provider=session.provider, threads=1) as probe:
                return not is_probe_exact(probe.run(probe_feeds()))
        except EdgeDistillError:  # the provider cannot run the probe
            return False


def _images_of(judged: JudgedModel) -> Images:
    if judged.bundle.has("golden"):
        return read_golden(judged.bundle.file("golden"))[0][:_IMAGES]
    return judged.evaluation.images(judged.evaluation.spread(_IMAGES))
