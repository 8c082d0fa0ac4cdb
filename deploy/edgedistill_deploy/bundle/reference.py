"""The recorded answers in a bundle: the teacher's to judge accuracy, and the student's to check numbers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import BundleError, DataError
from edgedistill_deploy.files.npz import ArraySpec, read_arrays
from edgedistill_deploy.files.writing import write_whole

MAX_BYTES = 2 << 30
MAX_GOLDEN_BYTES = 256 << 20

_REFERENCE = {
    "logits": ArraySpec(kinds="f", item_bytes=4, axes=(2,), description="float32 (N, C)"),
    "labels": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (N,)"),
    "digests": ArraySpec(kinds="U", item_bytes=256, axes=(1,), description="strings of 64 characters (N,)"),
    "images": ArraySpec(kinds="u", item_bytes=1, axes=(4,), description="uint8 (M, H, W, 3)", required=False),
    "image_index": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (M,)"),
    "class_names": ArraySpec(kinds="U", axes=(1,), description="strings (C,)", required=False),
    "golden_index": ArraySpec(kinds="i", item_bytes=8, axes=(1,), description="int64 (n,)", required=False),
}
_GOLDEN = {
    "inputs": ArraySpec(kinds="u", item_bytes=1, axes=(4,), description="uint8 (n, H, W, 3)"),
    "outputs": ArraySpec(kinds="f", item_bytes=4, axes=(2,), description="float32 (n, C)"),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """The teacher's answers on the evaluation images.

    Args:
        logits: float32 (N, C), the teacher's logits of the subtask's classes; all finite.
        labels: int64 (N,), positions in the subtask; -1 where unknown.
        digests: strings (N,) of 64 characters, the sha256 of each image's source.
        images: uint8 (M, H, W, 3), prepared images; None where they would be too large.
        image_index: int64 (M,), the row of `logits` for each image.
        class_names: strings (C,), the subtask's classes in the order of the logits.
        golden_index: int64 (n,), the row of `logits` for each input of the bundle's golden file.

    References of earlier versions have neither class_names nor golden_index. Raises DataError when the arrays do not
    fit each other, or a logit is not finite.
    """

    logits: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    digests: NDArray[np.str_] = field(repr=False)
    images: NDArray[np.uint8] | None = field(repr=False)
    image_index: NDArray[np.int64] = field(repr=False)
    class_names: NDArray[np.str_] | None = field(repr=False, default=None)
    golden_index: NDArray[np.int64] | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        for name, spec in _REFERENCE.items():
            array = getattr(self, name)
            if array is not None:
                _require_spec(name, array, spec)
        count, classes = self.logits.shape
        if not count or not classes or {count} != {len(self.labels), len(self.digests)}:
            raise DataError(
                f"logits of shape {self.logits.shape} with {len(self.labels)} labels and {len(self.digests)} digests "
                "do not fit each other; there must be one of each for every image."
            )
        if self.labels.min() < -1 or self.labels.max() >= classes:
            raise DataError(
                f"labels run from {self.labels.min()} to {self.labels.max()}; {classes} classes allow -1 to "
                f"{classes - 1}."
            )
        _require_finite("logits", self.logits)
        self._check_images()
        if self.class_names is not None and len(self.class_names) != classes:
            raise DataError(f"class_names lists {len(self.class_names)} names for {classes} classes.")
        if self.golden_index is not None:
            self._check_rows("golden_index", self.golden_index)

    def _check_images(self) -> None:
        held = 0 if self.images is None else len(self.images)
        rows = self.image_index
        if len(rows) != held:
            raise DataError(f"image_index has {len(rows)} entries for {held} images; it must have one for each.")
        self._check_rows("image_index", rows)
        if self.images is not None and (self.images.shape[3] != 3 or not self.images.size):
            raise DataError(f"images has shape {self.images.shape}; it must be (M, H, W, 3), M at least 1, or None.")

    def _check_rows(self, name: str, rows: NDArray[np.int64]) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self.logits)):
            raise DataError(
                f"{name} runs from {rows.min()} to {rows.max()}, outside the {len(self.logits)} rows of logits."
            )


def write_reference(path: Path, reference: Reference) -> None:
    """Write the arrays as compressed .npz, whole or not at all. Equal arrays make equal files."""
    _write(path, {name: array for name in _REFERENCE if (array := getattr(reference, name)) is not None})


def read_reference(path: Path) -> Reference:
    """Read what `write_reference` wrote. Raises BundleError naming the file for anything else."""
    arrays = read_arrays(path, _REFERENCE, BundleError, limit_bytes=MAX_BYTES)
    images = arrays.pop("images", None)
    try:
        return Reference(images=images, **arrays)
    except DataError as error:
        raise BundleError(f"{path} is damaged: {error}") from error


def write_golden(path: Path, inputs: NDArray[np.uint8], outputs: NDArray[np.float32]) -> None:
    """Write inputs uint8 (n, H, W, 3) and the student's logits float32 (n, C) on them, whole or not at all."""
    arrays: dict[str, NDArray[Any]] = {"inputs": inputs, "outputs": outputs}
    for name, spec in _GOLDEN.items():
        _require_spec(name, arrays[name], spec)
    _require_pairs(inputs, outputs)
    _write(path, arrays)


def read_golden(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read what `write_golden` wrote: (inputs, outputs). Raises BundleError naming the file for anything else."""
    arrays = read_arrays(path, _GOLDEN, BundleError, limit_bytes=MAX_GOLDEN_BYTES)
    try:
        _require_pairs(arrays["inputs"], arrays["outputs"])
    except DataError as error:
        raise BundleError(f"{path} is damaged: {error}") from error
    return arrays["inputs"], arrays["outputs"]


def _require_spec(name: str, array: NDArray[Any], spec: ArraySpec) -> None:
    if not spec.fits(array.dtype, array.shape):
        raise DataError(f"{name} has dtype {array.dtype} and shape {array.shape}; it must be {spec.description}.")


def _require_finite(name: str, logits: NDArray[np.float32]) -> None:
    broken = int(np.sum(~np.isfinite(logits).all(axis=1)))
    if broken:
        raise DataError(
            f"{broken} of {len(logits)} rows of {name} hold a value that is not finite (NaN or infinite), and nothing "
            "can be judged by such an answer; export again."
        )


def _require_pairs(inputs: NDArray[np.uint8], outputs: NDArray[np.float32]) -> None:
    if len(inputs) != len(outputs) or not inputs.size or inputs.shape[3] != 3:
        raise DataError(
            f"golden inputs of shape {inputs.shape} and outputs of shape {outputs.shape} do not fit each other; there "
            "must be one row of outputs for each image (H, W, 3), at least one."
        )
    _require_finite("outputs", outputs)


def _write(path: Path, arrays: Mapping[str, Any]) -> None:
    with write_whole(path) as temporary:
        np.savez_compressed(temporary, **arrays)
