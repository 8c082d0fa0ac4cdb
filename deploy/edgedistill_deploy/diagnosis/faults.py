"""What a bad result looks like it comes from: each known fault has a detector that recognises it by what it alone does.

A verdict says that a model is unfit; a diagnosis says by name what would make it fit, and on what evidence. Detectors
are quiet where they are not sure: no diagnosis means that none of the known faults was recognised, not that there is
none.
"""

from edgedistill_deploy.diagnosis._image_faults import SWAPPED_LABELS, find_image_faults
from edgedistill_deploy.diagnosis._judged_model import JudgedModel
from edgedistill_deploy.diagnosis._model_faults import find_model_faults
from edgedistill_deploy.records.parity import Diagnosis

__all__ = ["SWAPPED_LABELS", "JudgedModel", "diagnose"]


def diagnose(judged: JudgedModel, *, failed: bool) -> tuple[Diagnosis, ...]:
    """Return what is recognised: of the images and labels always, of the model when it failed."""
    found = list(find_image_faults(judged))
    if failed:
        found += find_model_faults(judged)
    return tuple(found)
