"""A loaded model, whatever runs it: open one, run it, know exactly what ran."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from edgedistill_deploy.clock import MACHINE_CLOCK, Clock
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.model import Int8Kernels, MeasuredModel
from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE, EngineOptions

if TYPE_CHECKING:
    from typing_extensions import Self

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output: its name, its shape with None where a size is free, and its numpy dtype's name."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRequest:
    """What an adapter is asked to open.

    `optimised` is False where the runtime must compute the graph as it is written, node by node. `engine` and
    `progress` are for a runtime that builds an engine first: how, and whom to tell how far it is; an exception out of
    `progress` ends the build and reaches the caller. `clock` times the loading and the build. `trace` begins the name
    of a file in which the runtime is to note what each node takes.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """A node of the graph that the runtime runs: its name there, what it computes or None where the runtime does not
    say, ms of a run, and where it ran.
    """

    name: str
    op_type: str | None
    mean_ms: float
    provider: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """What a runtime's profiler tells of a model's nodes.

    Attributes:
        source: whose profiler.
        runs: how many counted: of ONNX Runtime's, the faster half.
        mean_ms: of a whole run with the profiler on.
        outside_ms: of it in no node; None where the profiler tells of nodes only.
    """

    nodes: tuple[NodeRun, ...]
    source: str
    runs: int
    mean_ms: float
    outside_ms: float | None


class Session(Protocol):
    """A model loaded by a runtime. A context manager: left, it has freed the model and runs no more."""

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
        """The runtime's back end, as the user names it; the one that was asked for, or there is no session."""

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
        """How long it took to load the model, without importing the runtime."""

    @property
    def placement(self) -> Mapping[str, int] | None:
        """How many nodes run on which back end, by the names users type; None where the runtime does not tell."""

    @property
    def int8_kernels(self) -> Int8Kernels | None:
        """What the kernels of an INT8 model do on this processor; None for other models, and where the runtime is not
        known to."""

    @property
    def engine_record(self) -> Mapping[str, Any] | None:
        """What is recorded of the engine that the runtime built; None where it runs the model file itself."""

    def trace_nodes(self, feeds: Feeds, *, warm_up: int, runs: int, progress: Progress = silent) -> NodeTrace | None:
        """Run with the runtime's profiler on, apart from the runs that are timed; None where the runtime has none.

        `runs` count, after `warm_up` that do not; `progress` counts the runs.
        """

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute all outputs. Raises EdgeDistillError saying what the model expects and what it was given."""

    def __enter__(self) -> "Self": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def identify_model(session: Session, device: str) -> MeasuredModel:
    """Return what a session runs, on a device by name."""
    return MeasuredModel(
        device=device,
        runtime=session.runtime,
        provider=session.provider,
        precision=session.precision,
        model_sha256=session.model_sha256,
    )


def usable_cores() -> int:
    """Return how many cores this process may use, which a container or taskset can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
