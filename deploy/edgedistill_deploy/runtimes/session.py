"""A loaded model of any runtime, and what exactly ran."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.model import Int8Kernels, MeasuredModel
from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE, EngineOptions

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT_S = 600.0  # the longest run, a batch of images, unless the caller gives another limit

Feeds = Mapping[str, NDArray[Any]]


def require_limit(limit_s: float) -> None:
    """Raise UsageError for a limit that is no time."""
    if not 0 < limit_s < float("inf"):
        raise UsageError(f"The limit for one inference is {limit_s} s; it must be above 0, such as --limit-s 60.")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: its name, its shape with None where a size is free, and its numpy dtype's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join('any' if size is None else str(size) for size in self.shape)})"

    def takes(self, given: NDArray[Any]) -> bool:
        """Return whether an array has this dtype and shape."""
        same_axes = len(self.shape) == given.ndim
        sizes = zip(self.shape, given.shape, strict=False)
        return self.dtype == str(given.dtype) and same_axes and all(size in (None, got) for size, got in sizes)


def feeds_fit(inputs: Sequence[TensorSpec], feeds: Feeds) -> bool:
    """Return whether the feeds are exactly a model's inputs."""
    return len(feeds) == len(inputs) and all(
        spec.name in feeds and spec.takes(np.asarray(feeds[spec.name])) for spec in inputs
    )


def describe_failure(model: Path, runtime: str, inputs: Sequence[TensorSpec], feeds: Feeds) -> str:
    """Return the sentence that a model failed, with what it takes and what it was given."""
    arrays = {name: np.asarray(value) for name, value in feeds.items()}
    given = [TensorSpec(name=name, shape=each.shape, dtype=str(each.dtype)) for name, each in arrays.items()]
    takes, got = (" and ".join(map(str, specs)) or "nothing" for specs in (inputs, given))
    return f"{model.name} failed on {runtime}: it takes {takes} and was given {got}."


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """What an adapter must open.

    `optimised` is False where the runtime must compute the graph as it is written, node by node. `engine` and
    `progress` are for a runtime that builds an engine first. An exception from `progress` ends the build and reaches
    the caller. `clock` times the loading and the build. `trace` is the start of the name of a file for node times.
    A run that takes longer than `limit_s` is stopped where the runtime can be. Without `spinning`, idle threads sleep
    instead of waiting busily.
    """

    path: Path
    sha256: str
    precision: str
    provider: str
    threads: int
    optimised: bool = True
    engine: EngineOptions = DEFAULT_ENGINE
    progress: Progress = silent
    clock: Clock = MACHINE_CLOCK
    trace: Path | None = None
    limit_s: float | None = None
    spinning: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """A node of the runtime's graph, with its mean time in a run; `op_type` is None where the runtime has none."""

    name: str
    op_type: str | None
    mean_ms: float
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """The times of a model's nodes from a runtime's profiler.

    Attributes:
        source: whose profiler.
        runs: how many runs counted; of ONNX Runtime's runs, the faster half.
        mean_ms: the time of a whole run with the profiler on.
        outside_ms: the part of it in no node; None where the profiler gives only nodes.
    """

    nodes: tuple[NodeRun, ...]
    source: str
    runs: int
    mean_ms: float
    outside_ms: float | None


class Session(Protocol):
    """A model loaded by a runtime. At its end, this context manager frees the model, which then cannot run."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives."""

    @property
    def runtime(self) -> str:
        """The library, as the user names it."""

    @property
    def precision(self) -> str:
        """What the model computes in: "fp32", "fp16", "int8", or "teacher"."""

    @property
    def provider(self) -> str:
        """The runtime's back end, as the user names it. It is always the one that was asked for."""

    @property
    def threads(self) -> int:
        """How many threads one run may use."""

    @property
    def model_path(self) -> Path:
        """The ONNX file."""

    @property
    def model_sha256(self) -> str:
        """The sha256 of the ONNX file in hexadecimal."""

    @property
    def load_ms(self) -> float:
        """The time to load the model, without the import of the runtime."""

    @property
    def placement(self) -> Mapping[str, int] | None:
        """The number of nodes on each back end, by the names users type; None where the runtime does not say."""

    @property
    def int8_kernels(self) -> Int8Kernels | None:
        """What the kernels of an INT8 model do on this processor; None for other models, and where it is unknown."""

    @property
    def engine_record(self) -> Mapping[str, Any] | None:
        """The record of the engine that the runtime built; None where it runs the model file itself."""

    def trace_nodes(self, feeds: Feeds, *, warm_up: int, runs: int, progress: Progress = silent) -> NodeTrace | None:
        """Run with the runtime's profiler on, apart from the timed runs; None where the runtime has no profiler.

        The first `warm_up` runs do not count, the next `runs` do. `progress` counts the runs.
        """

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute all outputs. Raises EdgeDistillError saying what the model takes and what it was given."""

    def __enter__(self) -> "Self": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def identify_model(session: Session, device: str) -> MeasuredModel:
    """Return what a session runs on the device of this name."""
    return MeasuredModel(
        device=device,
        runtime=session.runtime,
        provider=session.provider,
        precision=session.precision,
        model_sha256=session.model_sha256,
    )


def usable_cores() -> int:
    """Return how many cores this process may use; a container or taskset can limit them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
