"""From an ONNX file to a TensorRT plan: parse, one optimisation profile for the batch range, build.

The network is strongly typed, so the ONNX file sets every precision and no flag of the builder changes it. Only calls
that TensorRT 10 and 11 share are used.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_bytes
from edgedistill_deploy.onnx_files.graph import read_graph
from edgedistill_deploy.runtimes.engine_options import EngineOptions
from edgedistill_deploy.runtimes.session import SessionRequest
from edgedistill_deploy.runtimes.tensorrt._steps import BuildSteps

_WORKSPACE_SHARE = 2  # the workspace may take the free memory divided by this
_LONGEST_REASON = 600  # characters of TensorRT's own message


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltPlan:
    """A serialised engine, the workspace it was allowed, and how long the build took."""

    plan: bytes
    workspace_bytes: int
    build_s: float


def make_logger(trt: Any) -> Any:
    """Return a logger that keeps errors in its list `errors` and prints nothing."""

    class Logger(trt.ILogger):  # type: ignore[misc] # tensorrt has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

    return Logger()


def build_plan(trt: Any, logger: Any, request: SessionRequest, free_bytes: int, timing_cache: Path) -> BuiltPlan:
    """Build an engine for the current GPU.

    Ctrl-C, or an exception from the request's `progress`, stops TensorRT at its next step and is then raised. Raises
    EdgeDistillError when the model cannot be parsed or built, naming the node where TensorRT does.
    """
    path, options, clock = request.path, request.engine, request.clock
    began_ns = clock.now_ns()
    workspace = options.workspace_bytes or free_bytes // _WORKSPACE_SHARE
    steps = BuildSteps(request.progress)

    def build() -> bytes:
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)  # owns the weights until the network is built
        if not parser.parse_from_file(str(path)):
            raise EdgeDistillError(_parse_failure(trt, parser, logger, path))
        config = _build_config(trt, builder, network, options, workspace, path)
        cache = _use_timing_cache(config, timing_cache)
        monitor = _make_monitor(trt, steps)
        config.progress_monitor = monitor
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            steps.raise_if_stopped()
            raise EdgeDistillError(_build_failure(trt, logger, path))
        write_bytes(timing_cache, bytes(cache.serialize()))
        return bytes(plan)

    plan = _interruptible(build, steps)
    return BuiltPlan(plan=plan, workspace_bytes=workspace, build_s=(clock.now_ns() - began_ns) / 1e9)


def _build_config(trt: Any, builder: Any, network: Any, options: EngineOptions, workspace: int, path: Path) -> Any:
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else the inspector knows only names
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    profile = _profile(builder, network, options, path)
    if profile is not None:
        config.add_optimization_profile(profile)
    return config


def _profile(builder: Any, network: Any, options: EngineOptions, path: Path) -> Any:
    """Return the profile for the batch range, or None when no input has a free size."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = {tensor.name: tuple(tensor.shape) for tensor in inputs}
    if all(size >= 0 for shape in shapes.values() for size in shape):
        return None
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        if any(size < 0 for size in shape[1:]):
            raise EdgeDistillError(
                f"{path.name} leaves more free than the batch size: its input {name} is {shape}; export it with one "
                "image size."
            )
        sizes = [
            (size, *shape[1:]) if shape[0] < 0 else shape
            for size in (options.min_batch, options.opt_batch, options.max_batch)
        ]
        profile.set_shape(name, *sizes)
    return profile


def _make_monitor(trt: Any, steps: BuildSteps) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # tensorrt has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, step_count: int) -> None:
            steps.start(name, parent, step_count)

        def step_complete(self, name: str, step: int) -> bool:
            return steps.complete(name, step)

        def phase_finish(self, name: str) -> None:
            steps.finish(name)

    return Monitor()


def _interruptible(build: Callable[[], bytes], steps: BuildSteps) -> bytes:
    """Build in another thread, so that this one is free to receive Ctrl-C."""
    built: list[bytes] = []
    failed: list[BaseException] = []
    # Not Thread.join: after an interrupt by Ctrl-C, it takes the thread for ended.
    ended = threading.Event()

    def work() -> None:
        try:
            built.append(build())
        except BaseException as error:  # noqa: BLE001  # raised again below, in the thread that asked
            failed.append(error)
        finally:
            ended.set()

    threading.Thread(target=work, name="tensorrt-build", daemon=True).start()
    try:
        ended.wait()
    except KeyboardInterrupt:
        steps.stop()
        ended.wait()
        raise
    if failed:
        raise failed[0]
    return built[0]


def _use_timing_cache(config: Any, path: Path) -> Any:
    """Give TensorRT the kernel times of earlier builds. Return the cache, which must live as long as the build.

    TensorRT measures again what it cannot use, such as the times of another version.
    """
    known = b""
    with suppress(OSError):
        known = path.read_bytes()
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _parse_failure(trt: Any, parser: Any, logger: Any, path: Path) -> str:
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    reason = "; ".join(_parser_error(error) for error in errors[:3])
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return f"TensorRT {trt.__version__} cannot parse {path.name}: {_short(reason) or _last(logger)}{more}.{_hint(path)}"


def _parser_error(error: Any) -> str:
    name, operator = error.node_name(), error.node_operator()
    where = f"node {name} ({operator}): " if name else ""
    return where + " ".join(error.desc().split()).rstrip(".")


def _build_failure(trt: Any, logger: Any, path: Path) -> str:
    return f"TensorRT {trt.__version__} cannot build an engine from {path.name}: {_last(logger)}.{_hint(path)}"


def _last(logger: Any) -> str:
    return _short(logger.errors[-1]) if logger.errors else "it gives no reason"


def _short(reason: str) -> str:
    return reason[:_LONGEST_REASON].rstrip(". ")


def _hint(path: Path) -> str:
    """Return a usual cause of a refusal: TensorRT takes uint8 only as an input that is cast first."""
    readers = {node.operator for node in read_graph(path).nodes if "image" in node.inputs and node.operator != "Cast"}
    if not readers:
        return ""
    return (
        f" TensorRT documents that a uint8 input must be cast to float first, and here {', '.join(sorted(readers))} "
        "reads it before; export the model again."
    )
