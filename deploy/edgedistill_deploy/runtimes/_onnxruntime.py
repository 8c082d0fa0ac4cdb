"""ONNX Runtime behind the session protocol. It never uses another provider than the one asked for.

Two faults are looked for in a new session: ONNX Runtime silently drops a provider whose library is missing, and it
lists a provider first even where that took no node.
"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.bundle.precisions import computes_in
from edgedistill_deploy.errors import BundleError, EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.files.names import replace_surrogates
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.model import Int8Kernels
from edgedistill_deploy.runtimes._node_times import sum_events
from edgedistill_deploy.runtimes._run_limit import RunLimit
from edgedistill_deploy.runtimes.int8_kernels import find_int8_kernels, set_int8_options
from edgedistill_deploy.runtimes.providers import (
    CPU,
    Provider,
    beside_cpu,
    is_usable,
    parse_provider,
    plain_name,
    usable_providers,
)
from edgedistill_deploy.runtimes.session import (
    Feeds,
    NodeTrace,
    SessionRequest,
    TensorSpec,
    describe_failure,
    feeds_fit,
)

if TYPE_CHECKING:
    from typing_extensions import Self

# The names in tensor(...), the type of an input or output, that differ from numpy's.
_DTYPES = {"float": "float32", "double": "float64", "string": "object"}

_registered: set[str] = set()  # plug-ins are registered with ONNX Runtime once in a process

_FATAL = 4  # errors are raised; the native log would also write to stderr
_REASON_LENGTH = 600  # characters of ONNX Runtime's message, which can quote whole functions


class OnnxRuntimeSession:
    """A model in ONNX Runtime; see `edgedistill_deploy.runtimes.session.Session`."""

    runtime = "onnxruntime"
    engine_record = None  # it runs the model file itself

    def __init__(
        self,
        native: Any,
        request: SessionRequest,
        load_ms: float,
        *,
        one_by_one: bool,
        int8_kernels: Int8Kernels | None,
    ) -> None:
        self._native = native
        self._one_by_one = one_by_one
        self._request = request
        self.inputs = tuple(_spec(each, one_by_one) for each in native.get_inputs())
        self.outputs = tuple(_spec(each, one_by_one) for each in native.get_outputs())
        self.placement = _placement(native)
        self.precision = request.precision
        self.provider = request.provider
        self.threads = request.threads
        self.model_path = request.path
        self.model_sha256 = request.sha256
        self.load_ms = load_ms
        self.int8_kernels = int8_kernels
        self._output_names = [spec.name for spec in self.outputs]
        self._run_options, self._limit = _limited(request.limit_s)

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute all outputs. Nothing is checked before, because this call is timed."""
        if self._native is None:
            raise EdgeDistillError(f"The session of {self.model_path.name} is closed; open it again to run it.")
        try:
            values = self._compute(feeds)
        except Exception as error:
            if self._limit is not None and self._limit.expired:
                raise EdgeDistillError(_describe_slowness(self._limit.limit_s, self._request, feeds)) from error
            sentence = describe_failure(self.model_path, "ONNX Runtime", self.inputs, feeds)
            reason = f" {_reason(error)}" if feeds_fit(self.inputs, feeds) else ""
            raise EdgeDistillError(sentence + reason) from error
        return dict(zip(self._output_names, values, strict=True))

    def trace_nodes(self, feeds: Feeds, *, warm_up: int, runs: int, progress: Progress = silent) -> NodeTrace:
        """Sum up the trace of another session, with ONNX Runtime's profiling on; see `Session.trace_nodes`."""
        with tempfile.TemporaryDirectory(prefix="edgedistill-trace-") as folder:
            request = replace(self._request, trace=Path(folder) / "trace")
            with open_onnx(request) as traced:
                for done in range(warm_up + runs):
                    traced.run(feeds)
                    progress(done + 1, warm_up + runs)
                events = json.loads(Path(traced._native.end_profiling()).read_text(encoding="utf-8"))
        return sum_events(events, warm_up, runs)

    def _compute(self, feeds: Feeds) -> list[NDArray[Any]]:
        if self._limit is None:
            return self._run_once(feeds)
        self._run_options.terminate = False
        self._limit.begin()
        try:
            return self._run_once(feeds)
        finally:
            self._limit.end()

    def _run_once(self, feeds: Feeds) -> list[NDArray[Any]]:
        if self._one_by_one:
            return self._rows(feeds)
        found: list[NDArray[Any]] = self._native.run(self._output_names, dict(feeds), self._run_options)
        return found

    def _rows(self, feeds: Feeds) -> list[NDArray[Any]]:
        """Run a batch image by image, for a provider that takes only graphs of fixed shape."""
        count = len(next(iter(feeds.values())))
        answers = [
            self._native.run(
                self._output_names, {name: value[row : row + 1] for name, value in feeds.items()}, self._run_options
            )
            for row in range(count)
        ]
        return [np.concatenate(rows) for rows in zip(*answers, strict=True)]

    def __enter__(self) -> "Self":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._native = None
        if self._limit is not None:
            self._limit.close()


def open_onnx(request: SessionRequest) -> OnnxRuntimeSession:
    """Load the requested ONNX file on the requested provider, or raise."""
    ort = _import_onnxruntime()
    _require_readable(request.path)
    provider = parse_provider(request.provider)
    # ONNX Runtime silently ignores the name of a plug-in's provider; its devices must be given.
    devices = _plugin_devices(ort, provider)
    options = _options(ort, request, provider)
    # Only an optimised graph has INT8 kernels; as it is written, Q/DQ are computed in float32.
    fuses_int8 = request.optimised and computes_in(request.precision) == "int8"
    kernels = set_int8_options(ort, options, request.path) if fuses_int8 else None
    start = request.clock.now_ns()
    try:
        native = _load(ort, request, provider, devices, options)
    except Exception as error:
        if kernels != "made_exact":
            raise EdgeDistillError(_load_failure(ort, request, error)) from error
        native, kernels = _load_inexact(ort, request, provider, devices), "saturating"
    load_ms = (request.clock.now_ns() - start) / 1e6
    native.disable_fallback()
    _require_provider(native, provider, request)
    kernels = kernels if provider.natives == (CPU,) else None
    session = OnnxRuntimeSession(native, request, load_ms, one_by_one=provider.kind.fixed_batch, int8_kernels=kernels)
    _require_placement(session.placement, provider, request)
    return session


def providers_beside_cpu() -> tuple[str, ...]:
    """Return the built-in providers besides `cpu` that compute on the processor.

    Those of plug-ins are left out: a plug-in tells its devices only once it is loaded, and the first may be a GPU.
    """
    return beside_cpu(_import_onnxruntime().get_available_providers())


def has_provider(provider: str) -> bool:
    """Return whether a provider can be asked for on this machine."""
    return is_usable(provider, _import_onnxruntime().get_available_providers())


def probe_kernels() -> Int8Kernels | None:
    """Return what the INT8 kernels do on this processor; None where the probe does not run."""
    return find_int8_kernels(_import_onnxruntime())


def _load(ort: ModuleType, request: SessionRequest, provider: Provider, devices: list[Any], options: Any) -> Any:
    asked = [(name, provider.options(name, request.threads, request.precision)) for name in provider.natives]
    if devices:
        options.add_provider_for_devices(devices, asked[0][1])
    return ort.InferenceSession(
        str(request.path), sess_options=options, providers=None if devices else asked, enable_fallback=0
    )


def _require_readable(path: Path) -> None:
    if str(path) != replace_surrogates(str(path)):
        raise BundleError(f"{path} has bytes that are not UTF-8, which ONNX Runtime cannot open; rename the folder.")


def _load_inexact(ort: ModuleType, request: SessionRequest, provider: Provider, devices: list[Any]) -> Any:
    """Load without the option for exact kernels; ONNX Runtime 1.32 fails with it for a shared zero point."""
    try:
        return _load(ort, request, provider, devices, _options(ort, request, provider))
    except Exception as error:
        raise EdgeDistillError(_load_failure(ort, request, error)) from error


def _import_onnxruntime() -> ModuleType:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # by default, its Linux wheels send reports to their maker
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "ort", "Running a model with ONNX Runtime") from error
    module: ModuleType = onnxruntime
    return module


def _plugin_devices(ort: ModuleType, provider: Provider) -> list[Any]:
    """Return the devices of a provider that a plug-in package adds; none where it is built in.

    Raises UsageError where the provider is neither.
    """
    if set(provider.natives) <= set(ort.get_available_providers()) and provider.name not in _registered:
        return []
    plugin = _plugin(provider)
    if plugin is None:
        usable = ", ".join(usable_providers(ort.get_available_providers()))
        raise UsageError(
            f"The installed ONNX Runtime {ort.__version__} has no provider {provider.name}; it has {usable}. Choose "
            f"one of these, or install {provider.kind.package}."
        )
    if provider.name not in _registered:
        ort.register_execution_provider_library(provider.natives[0], plugin.get_library_path())
        _registered.add(provider.name)
    devices = [each for each in ort.get_ep_devices() if each.ep_name == provider.natives[0]]
    if not devices:
        raise EdgeDistillError(
            f"{plugin.__name__} finds no device on this machine for the provider {provider.name}; choose another "
            "provider."
        )
    wanted = (provider.device or "").upper()
    return [each for each in devices if each.device.type.name == wanted][:1] or devices[:1]


def _plugin(provider: Provider) -> ModuleType | None:
    if provider.kind.plugin is None:
        return None
    try:
        return import_module(provider.kind.plugin)
    except ImportError:
        return None


def _options(ort: ModuleType, request: SessionRequest, provider: Provider) -> Any:
    options = ort.SessionOptions()
    # XNNPACK has its own thread pool; two pools would compete for the same cores.
    options.intra_op_num_threads = 1 if provider.name == "xnnpack" else request.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if provider.name == "xnnpack" or not request.spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider.strict and provider.natives != (CPU,):  # ONNX Runtime refuses it with the CPU provider
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if provider.kind.fixed_batch:
        for name in _batch_names(request):
            options.add_free_dimension_override_by_name(name, 1)
    if request.trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(request.trace)
    if not request.optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _batch_names(request: SessionRequest) -> list[str]:
    """Return the names of the inputs' free first sizes, which only a loaded model has."""
    with open_onnx(replace(request, provider="cpu", optimised=False)) as session:
        firsts = [value.shape[0] for value in session._native.get_inputs() if value.shape]
    return sorted({size for size in firsts if isinstance(size, str)})


def _placement(native: Any) -> Mapping[str, int] | None:
    """Count the nodes of each provider, after ONNX Runtime's basic optimisations; None before ONNX Runtime 1.24."""
    if not hasattr(native, "get_provider_graph_assignment_info"):
        return None
    counts: Counter[str] = Counter()
    for part in native.get_provider_graph_assignment_info():
        counts[plain_name(part.ep_name)] += len(part.get_nodes())
    return dict(counts)


def _require_provider(native: Any, provider: Provider, request: SessionRequest) -> None:
    got = native.get_providers()
    if got[:1] != [provider.natives[0]]:
        raise EdgeDistillError(
            f"ONNX Runtime loaded {request.path.name} on {', '.join(got)} where {request.provider} "
            f"({provider.natives[0]}) was asked for; its libraries or the device are probably missing. Nothing is "
            "measured on another provider than asked for."
        )


def _require_placement(placement: Mapping[str, int] | None, provider: Provider, request: SessionRequest) -> None:
    if not placement or any(plain_name(native) in placement for native in provider.natives):
        return
    told = " and ".join(f"{count} nodes on {name}" for name, count in placement.items())
    raise EdgeDistillError(
        f"{provider.name} took no node of {request.path.name}: ONNX Runtime runs {told}. Nothing is measured on "
        "another provider than asked for; choose the other one by name."
    )


def _load_failure(ort: ModuleType, request: SessionRequest, error: Exception) -> str:
    path, reason = request.path, _reason(error)
    if request.provider != "cpu":
        return (
            f"ONNX Runtime {ort.__version__} cannot load {path} on {request.provider}: {reason} Provider cpu tells "
            "whether the file or the provider is at fault."
        )
    newer = re.search(r"opset|ir.?version|no op registered", reason, re.IGNORECASE) is not None
    advice = "upgrade onnxruntime, or export the model again" if newer else "rebuild or restore the file"
    return f"ONNX Runtime {ort.__version__} cannot load {path}: {reason} To go on, {advice}."


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's message as one line, without its error code and C++ function."""
    line = " ".join(str(error).split())
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    line = re.sub(r"^Load model from .*? failed: ?", "", line)
    line = re.sub(r"\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])", "", line)
    return f"{line[:_REASON_LENGTH].rstrip('. ')}."


def _limited(limit_s: float | None) -> tuple[Any, RunLimit | None]:
    """Return the options of each run, and what stops a run through them; (None, None) without a limit."""
    if limit_s is None:
        return None, None
    options = _import_onnxruntime().RunOptions()
    return options, RunLimit(limit_s, lambda: setattr(options, "terminate", True))


def _describe_slowness(limit_s: float, request: SessionRequest, feeds: Feeds) -> str:
    count = max((len(value) for value in feeds.values() if np.ndim(value)), default=1)
    return (
        f"{request.path.name} was stopped: one inference of {count} images took longer than {limit_s:g} s on "
        f"{request.provider}. If it is meant to be so slow, give --limit-s a larger number."
    )


def _spec(value: Any, free_batch: bool) -> TensorSpec:
    kind = re.sub(r"^tensor\((.*)\)$", r"\1", value.type)
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, shape=(None, *shape[1:]) if free_batch else shape, dtype=_DTYPES.get(kind, kind))
