"""How a TensorRT engine is to be built, and where it is kept."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What makes one engine differ from another, besides the model, TensorRT's version and the GPU.

    Args:
        min_batch, opt_batch, max_batch: the engine runs batches from the first to the last and is tuned for the middle
            one.
        hardware_compatible: runs on every GPU of the Ampere generation or later, at some cost in speed; not on a
            Jetson.
        version_compatible: runs on later TensorRTs too; what is loaded then executes code that the file carries.
        tf32: let TensorRT round the factors of float32 products to 10 bits of mantissa, as it does unless told
            otherwise.
        workspace_bytes: device memory that TensorRT may use while it computes; None for half of what is free.
        cache: folder of engines and timing caches; None for `default_cache()`.
        file: an engine to load instead, with its sidecar; nothing is built, and what does not fit is an error.

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
        """Return the options for measuring one batch size: tuned for it, and taking it."""
        return replace(
            self,
            min_batch=min(self.min_batch, batch_size),
            opt_batch=batch_size,
            max_batch=max(self.max_batch, batch_size),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what decides over the engine, not where it is kept."""
        names = (
            "min_batch",
            "opt_batch",
            "max_batch",
            "hardware_compatible",
            "version_compatible",
            "tf32",
            "workspace_bytes",
        )
        return {name: getattr(self, name) for name in names}


DEFAULT_ENGINE = EngineOptions()


def default_cache() -> Path:
    """Return $XDG_CACHE_HOME/edgedistill/tensorrt, or the same under ~/.cache; relative values are ignored, as XDG
    demands."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = given if given.is_absolute() else Path.home() / ".cache"
    return base / "edgedistill" / "tensorrt"
