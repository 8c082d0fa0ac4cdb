"""What each file of a bundle is expected to give for the golden inputs: recorded when the file is made.

`golden.npz` holds the inputs and the student's outputs, and these are the expectation of the fp32 file. A file of a
lower precision rounds, so it has outputs of its own: `golden.PRECISION.npz`, under the role `golden.PRECISION`. They
are what the file means, its graph computed node by node as it is written. So they hold on every processor.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.files.npz import ArraySpec, read_arrays
from edgedistill_deploy.files.writing import write_whole

MAX_BYTES = 64 << 20

_GOLDEN = "golden"
_ARRAYS = {
    "outputs": ArraySpec(kinds="f", item_bytes=4, axes=(2,), description="float32 (n, C)"),
    "inputs_sha256": ArraySpec(kinds="U", item_bytes=256, axes=(1,), description="a string of 64 characters (1,)"),
    "ways": ArraySpec(kinds="U", axes=(1,), description="strings (k,)"),
    "spread": ArraySpec(kinds="f", item_bytes=8, axes=(1,), description="float64 (k,)"),
    "tolerance": ArraySpec(kinds="f", item_bytes=8, axes=(1,), description="float64 (1,)"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expectation:
    """The outputs of one model file for the golden inputs, and how far a sound runtime may be from them.

    Args:
        outputs: float32 (n, C), the logits of the graph as it is written.
        inputs_sha256: of the golden inputs, see `inputs_digest`.
        spread: {way of running the file: largest difference of a logit from `outputs`}, measured with the outputs.
        tolerance: the largest difference of a logit that is no fault.

    Raises DataError for outputs or a tolerance that are not finite.
    """

    outputs: NDArray[np.float32] = field(repr=False)
    inputs_sha256: str
    spread: dict[str, float]
    tolerance: float

    def __post_init__(self) -> None:
        if not self.outputs.size or not np.isfinite(self.outputs).all():
            raise DataError("Expected outputs must be finite numbers, for at least one image.")
        if not np.isfinite(self.tolerance) or self.tolerance < 0:
            raise DataError(f"The tolerance is {self.tolerance}; it must be a finite number, at least 0.")


def expectation_role(model: str) -> str:
    """Return the role of a model's expectation: "model.int8" has "golden.int8", and "model.fp32" has "golden"."""
    precision = model.partition(".")[2]
    return _GOLDEN if model == model_role("fp32") else f"{_GOLDEN}.{precision}"


def inputs_digest(inputs: NDArray[np.uint8]) -> str:
    """Return the sha256 of golden inputs, uint8 (n, H, W, 3), with their shape."""
    return hashlib.sha256(f"{inputs.shape}".encode() + np.ascontiguousarray(inputs).tobytes()).hexdigest()


def write_expectation(path: Path, expected: Expectation) -> None:
    """Write the arrays as compressed .npz, whole or not at all."""
    with write_whole(path) as temporary:
        np.savez_compressed(
            temporary,
            outputs=expected.outputs,
            inputs_sha256=np.array([expected.inputs_sha256]),
            ways=np.array([*expected.spread], dtype=np.str_),
            spread=np.array([*expected.spread.values()], np.float64),
            tolerance=np.array([expected.tolerance], np.float64),
        )


def read_expectation(path: Path) -> Expectation:
    """Read what `write_expectation` wrote. Raises BundleError naming the file for anything else."""
    arrays = read_arrays(path, _ARRAYS, BundleError, limit_bytes=MAX_BYTES)
    single = len(arrays["inputs_sha256"]) == len(arrays["tolerance"]) == 1
    if not single or len(arrays["ways"]) != len(arrays["spread"]):
        raise BundleError(f"{path} is damaged: its arrays do not fit each other.")
    try:
        return Expectation(
            outputs=arrays["outputs"],
            inputs_sha256=str(arrays["inputs_sha256"][0]),
            spread=dict(zip(map(str, arrays["ways"]), arrays["spread"].tolist(), strict=True)),
            tolerance=float(arrays["tolerance"][0]),
        )
    except DataError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
