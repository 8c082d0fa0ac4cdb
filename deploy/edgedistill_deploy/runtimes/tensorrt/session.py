"""A TensorRT engine behind the session protocol: device memory, one stream, and the times of its layers."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.runtimes._node_times import sum_layers
from edgedistill_deploy.runtimes.session import (
    Feeds,
    NodeTrace,
    SessionRequest,
    TensorSpec,
    describe_failure,
    feeds_fit,
)
from edgedistill_deploy.runtimes.tensorrt._cudart import Cuda

if TYPE_CHECKING:
    from typing_extensions import Self

# TensorRT's types that numpy has, by the names that both major versions share.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A deserialised engine and its parts, in the order in which they are made."""

    trt: Any
    logger: Any
    runtime: Any
    engine: Any
    context: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """The times of one layer of the engine in milliseconds, run by run."""

    name: str
    samples_ms: tuple[float, ...]


class TensorRtSession:
    """A model in TensorRT; see `edgedistill_deploy.runtimes.session.Session`. Runs of several threads wait in turn."""

    runtime = provider = "tensorrt"
    threads = 1
    placement = None  # all of it is on the GPU
    int8_kernels = None  # those of GPUs add in 32 bits

    def __init__(
        self, loaded: Loaded, cuda: Cuda, request: SessionRequest, record: Mapping[str, Any], load_ms: float
    ) -> None:
        self.inputs, self.outputs = tensors_of(loaded)
        self.precision = request.precision
        self.model_path: Path = request.path
        self.model_sha256 = request.sha256
        self.engine_record = record
        self.load_ms = load_ms
        self._loaded: Loaded | None = loaded
        self._cuda = cuda
        self._batches = _batch_range(loaded, self.inputs)
        self._buffers: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        self._stream = cuda.make_stream()

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute all outputs: copy in, compute and copy out in one stream, and wait for it."""
        with self._lock:
            return self._run(self._open(), self._open().context, feeds)

    def layer_times(self, feeds: Feeds, runs: int) -> tuple[LayerTimes, ...]:
        """Run `runs` times in another execution context with TensorRT's profiler; return each layer's times.

        The profiler waits for every layer, so the sum is more than a run takes without it.
        """
        if runs < 1:
            raise UsageError(f"runs is {runs}; it must be 1 or more.")
        with self._lock:
            loaded = self._open()
            profiler = _make_profiler(loaded.trt)
            context = loaded.engine.create_execution_context()
            context.profiler = profiler
            for _ in range(runs):
                profiler.rows.append([])
                self._run(loaded, context, feeds)
            del context
        return _layer_times(profiler.rows)

    def trace_nodes(self, feeds: Feeds, *, warm_up: int, runs: int, progress: Progress = silent) -> NodeTrace:
        """Sum up the layers' times; see `Session.trace_nodes`. Progress is not called."""
        times = self.layer_times(feeds, warm_up + runs)
        return sum_layers([(each.name, each.samples_ms[warm_up:]) for each in times], self.provider)

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._lock:
            if self._loaded is None:
                return
            self._loaded = None  # context, engine and runtime go, in this order
            while self._buffers:
                self._cuda.free(self._buffers.popitem()[1][0])
            self._cuda.end_stream(self._stream)

    def _open(self) -> Loaded:
        if self._loaded is None:
            raise EdgeDistillError(f"The session of {self.model_path.name} is closed; open it again to run it.")
        return self._loaded

    def _run(self, loaded: Loaded, context: Any, feeds: Feeds) -> dict[str, NDArray[Any]]:
        given = self._check_feeds(feeds)
        for name, values in given.items():
            if not context.set_input_shape(name, values.shape):
                raise EdgeDistillError(self._refusal(loaded, given))
            context.set_tensor_address(name, self._buffer(name, values.nbytes))
            self._cuda.upload(self._buffers[name][0], values, self._stream)
        results = {spec.name: self._result(loaded, context, spec) for spec in self.outputs}
        if not context.execute_async_v3(self._stream):
            raise EdgeDistillError(self._refusal(loaded, given))
        self._cuda.require_launched(f"starting {self.model_path.name}")
        for name, values in results.items():
            self._cuda.download(values, self._buffers[name][0], self._stream)
        self._cuda.wait(self._stream)
        return results

    def _result(self, loaded: Loaded, context: Any, spec: TensorSpec) -> NDArray[Any]:
        """Make the array of an output, and give the context its device memory."""
        shape = tuple(context.get_tensor_shape(spec.name))
        if any(size < 0 for size in shape):
            raise EdgeDistillError(
                f"The output {spec.name} of {self.model_path.name} has a size that depends on the values, {shape}; a "
                "bundle's model has outputs of a fixed size."
            )
        values = np.empty(shape, dtype=spec.dtype)
        context.set_tensor_address(spec.name, self._buffer(spec.name, values.nbytes))
        return values

    def _buffer(self, name: str, size: int) -> int:
        """Return device memory of at least `size` bytes for a tensor, kept for later runs."""
        address, held = self._buffers.get(name, (0, -1))
        if held < size:
            if held >= 0:
                del self._buffers[name]
                self._cuda.free(address)
            address = self._cuda.allocate(size)
            self._buffers[name] = (address, size)
        return address

    def _check_feeds(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Return the feeds as contiguous arrays, because the copy to the device has no type or shape."""
        given = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        if not feeds_fit(self.inputs, given):
            raise EdgeDistillError(describe_failure(self.model_path, "TensorRT", self.inputs, given))
        if self._batches is not None:
            low, high = self._batches
            size = len(given[self.inputs[0].name])
            if not low <= size <= high:
                raise EdgeDistillError(
                    f"The engine of {self.model_path.name} was built for {low} to {high} images a run and was given "
                    f"{size}; build it with another --min-batch and --max-batch, or give it another number."
                )
        return given

    def _refusal(self, loaded: Loaded, given: Mapping[str, NDArray[Any]]) -> str:
        sentence = describe_failure(self.model_path, "TensorRT", self.inputs, given)
        return f"{sentence} TensorRT says: {loaded.logger.errors[-1] if loaded.logger.errors else 'nothing'}"


def tensors_of(loaded: Loaded) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return an engine's inputs and outputs."""
    trt, engine = loaded.trt, loaded.engine
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = tuple(None if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        spec = TensorSpec(name=name, shape=shape, dtype=_dtype(engine.get_tensor_dtype(name), name))
        is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs).append(spec)
    return tuple(inputs), tuple(outputs)


def _dtype(native: Any, name: str) -> str:
    if native.name not in _DTYPES:
        raise EdgeDistillError(
            f"The tensor {name} is of TensorRT's type {native.name}, which numpy lacks; a bundle's model takes uint8 "
            "and gives float32."
        )
    return _DTYPES[native.name]


def _batch_range(loaded: Loaded, inputs: tuple[TensorSpec, ...]) -> tuple[int, int] | None:
    """Return the smallest and largest batch of the engine's profile, None when its batch size is fixed."""
    if not inputs or inputs[0].shape[:1] != (None,):
        return None
    low, _, high = loaded.engine.get_tensor_profile_shape(inputs[0].name, 0)
    return int(low[0]), int(high[0])


def _make_profiler(trt: Any) -> Any:
    class Profiler(trt.IProfiler):  # type: ignore[misc] # tensorrt has no types
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.rows: list[list[tuple[str, float]]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.rows[-1].append((layer_name, ms))

    return Profiler()


def _layer_times(rows: list[list[tuple[str, float]]]) -> tuple[LayerTimes, ...]:
    """Turn runs of layers into layers of runs. Two layers can share a name, so their place counts."""
    names = [[name for name, _ in row] for row in rows]
    if not names[0] or any(each != names[0] for each in names):
        raise EdgeDistillError("TensorRT's profiler told no times, or those of other layers from run to run.")
    return tuple(
        LayerTimes(name=name, samples_ms=tuple(row[place][1] for row in rows)) for place, name in enumerate(names[0])
    )
