"""Reads what a report shows of the subspaces. A safetensors file is a JSON header before raw arrays."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import BundleError
from edgedistill_deploy.files.json_text import parse_json

MAX_HEADER_BYTES = 16 << 20
MAX_VALUES = 1 << 16  # eigenvalues of a layer: its width
MAX_LAYERS = 1000
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SubspaceRow:
    """One teacher layer: width D, rank K, the number of positions used, and the falling eigenvalues (D,)."""

    layer: str
    width: int
    rank: int
    sample_count: int
    eigenvalues: NDArray[np.float64]

    @property
    def captured(self) -> float | None:
        """The K kept directions' share of the sum of positive eigenvalues; None if no eigenvalue is positive."""
        positive = np.clip(self.eigenvalues, 0, None)
        total = float(positive.sum())
        return float(positive[: self.rank].sum()) / total if total > 0 else None


def read_subspace_rows(path: Path) -> tuple[SubspaceRow, ...]:
    """Read the layers of a subspaces file, in the file's order of names.

    Raises:
        BundleError: the file is damaged or is not a subspaces file.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= MAX_HEADER_BYTES:
                raise ValueError("no header")
            header = parse_json(stream.read(length))
            if not isinstance(header, dict):
                raise TypeError("no header")
            layers = [name.removesuffix("/basis") for name in header if name.endswith("/basis")]
            if len(layers) > MAX_LAYERS:
                raise ValueError(f"{len(layers)} layers")
            return tuple(_row(layer, header, lambda entry: _array(stream, 8 + length, entry)) for layer in layers)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path} cannot be read as subspaces ({error}); it is left out of the report.") from error


def _row(layer: str, header: Mapping[str, Any], read: Any) -> SubspaceRow:
    width, rank = header[f"{layer}/basis"]["shape"]
    eigenvalues = read(header[f"{layer}/eigenvalues"]).astype(np.float64)
    if eigenvalues.shape != (width,) or not np.isfinite(eigenvalues).all():
        raise ValueError(f"{layer} has no {width} finite eigenvalues")
    return SubspaceRow(
        layer=layer,
        width=int(width),
        rank=int(rank),
        sample_count=int(read(header[f"{layer}/sample_count"]).item()),
        eigenvalues=eigenvalues,
    )


def _array(stream: Any, start: int, entry: Mapping[str, Any]) -> NDArray[Any]:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), [int(size) for size in entry["shape"][:3]]
    if len(shape) > 2 or not all(0 <= size <= MAX_VALUES for size in shape) or math.prod(shape) > MAX_VALUES:
        raise ValueError(f"the shape {shape}")
    stream.seek(start + int(entry["data_offsets"][0]))
    return np.frombuffer(stream.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
