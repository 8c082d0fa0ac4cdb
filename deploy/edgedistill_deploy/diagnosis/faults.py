"""The likely causes of a bad result. Each known fault has a detector that recognises it by a sign of its own.

A verdict says that a model is unfit. A diagnosis names the fault to repair, with evidence. Detectors report nothing if
they are not sure: no diagnosis means that no known fault was recognised, not that there is no fault.
"""

from edgedistill_deploy.diagnosis._image_faults import (
    REFERENCE_AT_CHANCE,
    SHIFTED_ROWS,
    WORTHLESS_REFERENCE,
    find_image_faults,
)
from edgedistill_deploy.diagnosis._judged_model import JudgedModel
from edgedistill_deploy.diagnosis._model_faults import find_model_faults
from edgedistill_deploy.records.parity import Diagnosis

__all__ = ["REFERENCE_AT_CHANCE", "WORTHLESS_REFERENCE", "JudgedModel", "diagnose"]


def diagnose(judged: JudgedModel, *, failed: bool) -> tuple[Diagnosis, ...]:
    """Return the recognised faults of the images and labels, and those of the model if it failed."""
    found = tuple(find_image_faults(judged))
    # Answers to other images say nothing about the model.
    shifted = any(each.name == SHIFTED_ROWS for each in found)
    return (*found, *(find_model_faults(judged) if failed and not shifted else ()))
