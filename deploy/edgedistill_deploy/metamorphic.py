"""Relations that hold for every classifier, whatever its weights: an image's logits do not depend on its company.

Runtimes have shipped wrong numbers for batches above one, or for equal rows, while their own checks passed on one input. Each
relation runs the same images in other batches and compares every row with the first run.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import BundleError, DataError, EdgeDistillError
from edgedistill_deploy.session import Session

Batches = list[NDArray[np.int64]]

# Largest difference allowed, relative to the largest logit. Kernels chosen by batch size add in another order: float32 stays
# near 1e-6, TF32 near 1e-3. In INT8 a value on the edge between two steps may round either way. Real defects are far larger.
# "int8-tensorrt" counts as int8.
TOLERANCES = {"fp32": 2e-3, "teacher": 2e-3, "fp16": 2e-2, "int8": 5e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelationResult:
    """One relation: did it hold, and which input rows broke it by how much."""

    name: str
    passed: bool
    detail: str


def check_relations(session: Session, images: NDArray[np.uint8]) -> tuple[RelationResult, ...]:
    """Check all relations on `images`, uint8 (n, H, W, 3), best between 2 and 16 different ones.

    The tolerance follows the session's precision (`TOLERANCES`). Needs a model whose batch size is free. A runtime that refuses
    one of the batches breaks that relation; a runtime that refuses the first, plain run raises its own error.
    """
    if len(images) == 0:
        raise DataError("The metamorphic checks need at least one image and got none.")
    together = raw_logits(session, images)
    scale = float(np.max(np.abs(together), initial=0.0, where=np.isfinite(together)))
    tolerance = TOLERANCES[session.precision.partition("-")[0]] * scale + 1e-6
    return tuple(
        _check(session, images, together, name, batches, tolerance)
        for name, batches in _relations(len(images)).items()
    )


def raw_logits(session: Session, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the logits (n, C) as the runtime gives them, also when they are not finite; BundleError when it gives none."""
    outputs = session.run({"image": images})
    if "logits" not in outputs:
        raise BundleError(
            f"{session.model_path.name} gives {', '.join(outputs)}; a bundle's model gives logits."
        )
    return np.asarray(outputs["logits"], dtype=np.float32)


def _relations(n: int) -> dict[str, Batches]:
    """For each relation, the batches to run, as row numbers into the images."""
    rows = np.arange(n)
    padding = np.zeros(1 + n % 2, dtype=np.int64)
    return {
        "same_run_twice": [rows],
        "batch_of_one": [rows[row : row + 1] for row in range(n)],
        "permuted_rows": [rows[::-1], np.roll(rows, 1)],
        "repeated_rows": [np.zeros_like(rows), np.repeat(rows, 2)],
        "odd_batch": [np.concatenate([rows, padding])],
    }


def _check(
    session: Session,
    images: NDArray[np.uint8],
    together: NDArray[np.float32],
    name: str,
    batches: Batches,
    tolerance: float,
) -> RelationResult:
    rows = np.concatenate(batches)
    try:
        again = np.concatenate([raw_logits(session, images[batch]) for batch in batches])
    except EdgeDistillError as error:
        return RelationResult(name=name, passed=False, detail=f"The runtime refused a batch: {error}")
    if again.shape != (len(rows), *together.shape[1:]):
        detail = f"{len(rows)} images gave logits of shape {again.shape}."
        return RelationResult(name=name, passed=False, detail=detail)
    distance = _row_distance(again, together[rows])
    return _result(name, sorted(set(rows[distance > tolerance].tolist())), float(distance.max()), tolerance)


def _row_distance(given: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Largest absolute difference of each row, (n,); infinite where a logit is not finite."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(given.astype(np.float64) - expected)
    largest: NDArray[np.float64] = np.where(np.isfinite(distance), distance, np.inf).max(axis=1)
    return largest


def _result(name: str, broken: list[int], largest: float, tolerance: float) -> RelationResult:
    size = f"largest difference {largest:.3g}, tolerance {tolerance:.3g}"
    if not broken:
        return RelationResult(name=name, passed=True, detail=f"{size[0].upper()}{size[1:]}.")
    listed = ", ".join(map(str, broken[:20])) + (", ..." if len(broken) > 20 else "")
    return RelationResult(name=name, passed=False, detail=f"Broken for input rows {listed}: {size}.")
