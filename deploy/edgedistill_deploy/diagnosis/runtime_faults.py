"""A runtime that computes something else than the file means: saturating INT8 kernels, or a fault of a provider.

The right results are those of the graph as it is written, computed node by node in float32. The runtime's own results
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


def find_runtime_fault(judged: JudgedModel) -> Iterator[Diagnosis]:
    """Yield a fault if the graph as written brings back the accuracy that the runtime loses.

    Saturating kernels have a name of their own. Without them, ONNX Runtime's own provider is trusted.
    """
    session = judged.session
    saturates = _saturates(session)
    if not saturates and (session.runtime, session.provider) == ("onnxruntime", "cpu"):
        return
    error = _written_error(judged)
    if error is None or error <= _TOLERANCE:
        return
    try:
        with open_as_written(session) as written:
            repair = repair_by(judged, written)
    except EdgeDistillError:  # it takes too long or too much memory as it is written
        return
    if not repair.convinces(judged.confidence, _LEAST_RECOVERED):
        return
    name = "saturating_kernels" if saturates else "runtime_computes_otherwise"
    cause = saturation_sentence(session.provider) if saturates else _other_results_sentence(session)
    measured = {"relative_error": error} if np.isfinite(error) else {}
    detail = f"{cause} Computed as it is written, {percentages(repair)}."
    yield Diagnosis(name=name, detail=detail, evidence={**repair.evidence, **measured})


def _other_results_sentence(session: Session) -> str:
    where = session.runtime if session.runtime == session.provider else f"{session.runtime} on {session.provider}"
    advice = "" if computes_in(session.precision) == "fp32" else ", or deploy fp32 on this device"
    return f"{where} does not compute {session.model_path.name} as it is written; run it on cpu{advice}."


def saturation_notes(judged: JudgedModel) -> tuple[str, ...]:
    """Return a sentence on how much saturation changes the answers; none if the kernels are exact."""
    error = _written_error(judged) if _saturates(judged.session) else None
    if error is None:
        return ()
    whose = saturation_sentence(judged.session.provider)
    return (f"{whose} On the golden images the logits are off by {error:.1%} of their size.",)


def _written_error(judged: JudgedModel) -> float | None:
    """Return the relative error of the runtime's logits; None if they cannot be compared."""
    session = judged.session
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
    if computes_in(session.precision) != "int8":
        return False
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
