"""The answers of a session on prepared images."""

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import BundleError, EdgeDistillError
from edgedistill_deploy.runtimes.session import Session


def logits_of(session: Session, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, C) of prepared images, uint8 (n, H, W, 3).

    Raises BundleError when the model lacks the interface of a bundle's models. Raises EdgeDistillError when the runtime
    gives another number of rows, or numbers that are not finite.
    """
    require_interface(session)
    logits = np.asarray(session.run({"image": images})["logits"], dtype=np.float32)
    if logits.ndim != 2 or len(logits) != len(images):
        raise EdgeDistillError(
            f"{session.model_path.name} gave logits of shape {logits.shape} for {len(images)} images on "
            f"{session.runtime}; it must give one row for each."
        )
    broken = int(np.sum(~np.isfinite(logits).all(axis=1)))
    if broken:
        raise EdgeDistillError(
            f"{session.model_path.name} gave logits that are not finite for {broken} of {len(images)} images on "
            f"{session.runtime} ({session.precision}); try precision fp32 to see whether the model or its precision is "
            "at fault."
        )
    return logits


def require_interface(session: Session) -> None:
    """Raise BundleError for a model that does not take `image` and give `logits`."""
    inputs, outputs = [spec.name for spec in session.inputs], [spec.name for spec in session.outputs]
    if inputs != ["image"] or "logits" not in outputs:
        raise BundleError(
            f"{session.model_path.name} takes {', '.join(inputs)} and gives {', '.join(outputs)}; a bundle's model "
            "takes image and gives logits."
        )


def raw_logits(session: Session, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, C) as the runtime gives them, finite or not. Raises BundleError when it gives none."""
    return raw_answers(session, images)[0]


def raw_answers(session: Session, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Return the logits as `raw_logits` does, and `in_domain` (n,) or None where the model has no such output.

    Raises BundleError when the model gives no logits, or another number of decisions than of images.
    """
    outputs = session.run({"image": images})
    if "logits" not in outputs:
        raise BundleError(f"{session.model_path.name} gives {', '.join(outputs)}; a bundle's model gives logits.")
    accepted = np.asarray(outputs["in_domain"], dtype=np.bool_) if "in_domain" in outputs else None
    if accepted is not None and accepted.shape != (len(images),):
        raise BundleError(
            f"{session.model_path.name} gives in_domain of shape {accepted.shape} for {len(images)} images; it must "
            "give one decision for each."
        )
    return np.asarray(outputs["logits"], dtype=np.float32), accepted
