"""Relations that hold for every classifier with any weights: an image's logits do not depend on the rest of its batch.

Released runtimes gave wrong numbers for batches above one, or for equal rows, although their own checks passed on one
input. Each relation runs the same images in other batches, or from two threads at once, and compares every row with the
first run.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.errors import DataError, EdgeDistillError, first_names
from edgedistill_deploy.records.parity import RelationResult
from edgedistill_deploy.runtimes.logits import raw_logits
from edgedistill_deploy.runtimes.session import Session

Batches = list[NDArray[np.int64]]

_THREADS = 2
_ROUNDS = 4  # the times that each thread runs all images, while the other one runs too

# Largest difference allowed, relative to the largest logit. The kernel depends on the batch size and adds in another
# order: float32 stays near 1e-6, TF32 near 1e-3. In INT8 a value on the edge between two steps may round up or down.
# Real defects are far larger.
TOLERANCES = {"fp32": 2e-3, "fp16": 2e-2, "int8": 5e-2}
# Rounding the other way is rare and hits single rows: INT8 files of six networks gave every row again to 1e-6 in every
# batch. So where more than `_MANY` of the rows differ by more than this, the rows depend on each other.
USUAL_TOLERANCES = {"fp32": 2e-3, "fp16": 4e-3, "int8": 2e-3}
_MANY = 0.25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plain:
    """The first run, with which all others are compared."""

    images: NDArray[np.uint8]
    names: tuple[str, ...]
    logits: NDArray[np.float32]
    tolerance: float  # for each row
    usual: float  # for most rows


def check_relations(
    session: Session, images: NDArray[np.uint8], names: Sequence[str] = ()
) -> tuple[RelationResult, ...]:
    """Check all relations on `images`, uint8 (n, H, W, 3), best between 2 and 16 different ones.

    `names` (n,) are the images' names in the findings, which otherwise have row numbers only. The tolerance depends on
    the session's precision (`TOLERANCES`, and `USUAL_TOLERANCES` for most rows). The model's batch size must be free. A
    runtime that refuses a batch breaks that relation. A runtime that refuses the first run raises its own error.
    """
    if len(images) == 0:
        raise DataError("The metamorphic checks need at least one image and got none.")
    together = raw_logits(session, images)
    scale = float(np.max(np.abs(together), initial=0.0, where=np.isfinite(together)))
    tolerance, usual = (each[computes_in(session.precision)] * scale + 1e-6 for each in (TOLERANCES, USUAL_TOLERANCES))
    plain = _Plain(images=images, names=tuple(names), logits=together, tolerance=tolerance, usual=usual)
    found = [_check(session, plain, name, batches) for name, batches in _relations(len(images)).items()]
    return (*found, _check(session, plain, "two_threads", _turns(len(images)), threads=_THREADS))


def _relations(n: int) -> dict[str, Batches]:
    """Return the batches of each relation, as row numbers into the images."""
    rows = np.arange(n)
    padding = np.zeros(1 + n % 2, dtype=np.int64)
    return {
        "same_run_twice": [rows],
        "batch_of_one": [rows[row : row + 1] for row in range(n)],
        "permuted_rows": [rows[::-1], np.roll(rows, 1)],
        "repeated_rows": [np.zeros_like(rows), np.repeat(rows, 2)],
        "odd_batch": [np.concatenate([rows, padding])],
    }


def _turns(n: int) -> Batches:
    """Return the batches for the threads: the images forwards and backwards, so that mixed-up rows are found."""
    return [np.arange(n), np.arange(n)[::-1]] * (_ROUNDS * _THREADS // 2)


def _check(session: Session, plain: _Plain, name: str, batches: Batches, threads: int = 1) -> RelationResult:
    rows = np.concatenate(batches)
    try:
        again = np.concatenate(_run_all(session, [plain.images[batch] for batch in batches], threads))
    except EdgeDistillError as error:
        return RelationResult(name=name, passed=False, detail=f"The runtime refused a batch: {error}")
    if again.shape != (len(rows), *plain.logits.shape[1:]):
        detail = f"{len(rows)} images gave logits of shape {again.shape}."
        return RelationResult(name=name, passed=False, detail=detail)
    distance = _row_distance(again, plain.logits[rows])
    beyond = distance > plain.tolerance
    if beyond.any():
        return _result(name, sorted(set(rows[beyond].tolist())), plain, float(distance.max()))
    shifted = distance > plain.usual
    broken = sorted(set(rows[shifted].tolist())) if shifted.mean() > _MANY else []
    return _result(name, broken, plain, float(distance.max()))


def _run_all(session: Session, batches: list[NDArray[np.uint8]], threads: int) -> list[NDArray[np.float32]]:
    """Return the logits of each batch; several threads share the one session."""
    if threads == 1:
        return [raw_logits(session, batch) for batch in batches]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda batch: raw_logits(session, batch), batches))


def _row_distance(given: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest absolute difference of each row, (n,); infinite if a logit is not finite."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(given.astype(np.float64) - expected)
    largest: NDArray[np.float64] = np.where(np.isfinite(distance), distance, np.inf).max(axis=1)
    return largest


def _result(name: str, broken: list[int], plain: _Plain, largest: float) -> RelationResult:
    size = f"largest difference {largest:.3g}, tolerance {plain.tolerance:.3g}"
    if broken and largest <= plain.tolerance:
        size = f"largest difference {largest:.3g}, and so many rows may differ by {plain.usual:.3g} only"
    if not broken:
        return RelationResult(name=name, passed=True, detail=f"{size[0].upper()}{size[1:]}.")
    inputs = tuple(plain.names[row] for row in broken) if plain.names else ()
    shown = f" ({first_names(inputs, 20)})" if inputs else ""
    return RelationResult(
        name=name,
        passed=False,
        detail=f"Broken for input rows {first_names(broken, 20)}{shown}: {size}.",
        inputs=inputs,
    )
