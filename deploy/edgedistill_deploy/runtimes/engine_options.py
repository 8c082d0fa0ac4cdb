"""How TensorRT builds an engine, and where the engine is kept."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What makes one engine differ from another, besides the model, TensorRT's version and the GPU.

    Args:
        min_batch, opt_batch, max_batch: smallest batch, batch to tune for, largest batch.
        hardware_compatible: runs on every GPU from Ampere on, at some cost in speed; not on a Jetson.
        version_compatible: also runs on later TensorRTs. Such a file carries code that loading executes.
        tf32: TensorRT rounds the factors of float32 products to 10 bits of mantissa, which is its own default.
        workspace_bytes: device memory that TensorRT may use while it computes; None for half of the free memory.
        cache: folder of engines and timing caches; None for `default_cache()`.
        file: an engine with its sidecar to load, so that nothing is built; one that does not fit is an error.

    Raises UsageError for values outside these.
    """

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 64
    hardware_compatible: bool = False
    version_compatible: bool = False
    tf32: bool = False
    workspace_bytes: int | None = None
    cache: Path | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.min_batch <= self.opt_batch <= self.max_batch:
            raise UsageError(
                f"The engine's batch sizes are {self.min_batch}, {self.opt_batch} and {self.max_batch} (smallest, "
                "tuned for, largest); they must be 1 or more and in rising order."
            )
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise UsageError(f"workspace_bytes is {self.workspace_bytes}; it must be 1 or more.")

    @property
    def folder(self) -> Path:
        """Where engines are kept."""
        return self.cache or default_cache()

    def tuned_for(self, batch_size: int) -> "EngineOptions":
        """Return the options for measuring one batch size: tuned for it, with a range that includes it."""
        low, high = min(self.min_batch, batch_size), max(self.max_batch, batch_size)
        return replace(self, min_batch=low, opt_batch=batch_size, max_batch=high)

    def to_json(self) -> dict[str, Any]:
        """Return the options that change the engine, without where it is kept."""
        return {name: value for name, value in asdict(self).items() if name not in ("cache", "file")}


DEFAULT_ENGINE = EngineOptions()


def default_cache() -> Path:
    """Return $XDG_CACHE_HOME/edgedistill/tensorrt, or ~/.cache/edgedistill/tensorrt for none or a relative path."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "edgedistill" / "tensorrt"
