"""ONNX Runtime behind the session protocol; it never falls back from the provider it was asked for."""

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError, nearest_names
from edgedistill_deploy.session import Feeds, SessionRequest, TensorSpec

if TYPE_CHECKING:
    from typing_extensions import Self

# What the user types, and ONNX Runtime's names; TensorRT hands what it does not take to CUDA, as its documentation advises.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider",),
    "xnnpack": ("XnnpackExecutionProvider",),
    "qnn": ("QNNExecutionProvider",),
    "coreml": ("CoreMLExecutionProvider",),
}

# The names that differ from numpy's, in tensor(...) of an input's or output's type.
_DTYPES = {"float": "float32", "double": "float64", "string": "object"}

_FATAL = 4  # what goes wrong is raised; the native log would write to stderr besides
_REASON_LENGTH = 600  # characters of ONNX Runtime's own message, which can quote whole functions


class OnnxRuntimeSession:
    """A model in ONNX Runtime; see `edgedistill_deploy.session.Session`."""

    runtime = "onnxruntime"

    def __init__(self, native: Any, request: SessionRequest, load_ms: float) -> None:
        self._native = native
        self.inputs = tuple(_spec(each) for each in native.get_inputs())
        self.outputs = tuple(_spec(each) for each in native.get_outputs())
        self.precision = request.precision
        self.provider = request.provider
        self.threads = request.threads
        self.model_path = request.path
        self.model_sha256 = request.sha256
        self.load_ms = load_ms
        self._output_names = [spec.name for spec in self.outputs]

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Compute all outputs. Nothing is checked before, since this is what gets timed."""
        if self._native is None:
            raise EdgeDistillError(
                f"The session of {self.model_path.name} is closed; open it again to run it."
            )
        try:
            values = self._native.run(self._output_names, dict(feeds))
        except Exception as error:
            raise EdgeDistillError(self._failure(feeds, error)) from error
        return dict(zip(self._output_names, values, strict=True))

    def __enter__(self) -> "Self":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._native = None

    def _failure(self, feeds: Feeds, error: Exception) -> str:
        given = [
            TensorSpec(name=name, shape=np.shape(value), dtype=str(np.asarray(value).dtype))
            for name, value in feeds.items()
        ]
        sentence = f"{self.model_path.name} failed on ONNX Runtime: it takes {_listed(self.inputs)} and was given {_listed(given)}."
        return sentence if _differ(self.inputs, given) else f"{sentence} {_reason(error)}"


def open_onnx(request: SessionRequest) -> OnnxRuntimeSession:
    """Load the requested ONNX file on the requested provider, or raise."""
    ort = _imported()
    providers = _available(ort, request.provider)
    start = request.clock()
    try:
        native = ort.InferenceSession(
            str(request.path),
            sess_options=_options(ort, request),
            providers=[(name, _provider_options(name, request)) for name in providers],
            enable_fallback=0,
        )
    except Exception as error:
        raise EdgeDistillError(_load_failure(ort, request.path, error)) from error
    load_ms = (request.clock() - start) / 1e6
    native.disable_fallback()
    _require_provider(native, providers[0], request)
    return OnnxRuntimeSession(native, request, load_ms)


def _imported() -> ModuleType:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError("onnxruntime", "ort", "Running a model with ONNX Runtime") from error
    module: ModuleType = onnxruntime
    return module


def _available(ort: ModuleType, provider: str) -> tuple[str, ...]:
    if provider not in _PROVIDERS:
        raise UsageError(
            f"ONNX Runtime has no provider {provider!r} here.{nearest_names(provider, _PROVIDERS)}"
        )
    present = ort.get_available_providers()
    if any(name not in present for name in _PROVIDERS[provider]):
        usable = [name for name, needed in _PROVIDERS.items() if set(needed) <= set(present)]
        raise UsageError(
            f"The installed ONNX Runtime {ort.__version__} has no provider {provider}; it has {', '.join(usable)}. Choose one of "
            f"these, or install a build of ONNX Runtime with {provider}."
        )
    return _PROVIDERS[provider]


def _options(ort: ModuleType, request: SessionRequest) -> Any:
    options = ort.SessionOptions()
    # XNNPACK has a thread pool of its own; two pools would fight for the same cores.
    options.intra_op_num_threads = 1 if request.provider == "xnnpack" else request.threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    if not request.optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _provider_options(name: str, request: SessionRequest) -> dict[str, str]:
    return {"intra_op_num_threads": str(request.threads)} if name == "XnnpackExecutionProvider" else {}


def _require_provider(native: Any, wanted: str, request: SessionRequest) -> None:
    got = native.get_providers()
    if got[:1] != [wanted]:
        raise EdgeDistillError(
            f"ONNX Runtime loaded {request.path.name} on {', '.join(got)} where {request.provider} ({wanted}) was asked for; its "
            "libraries are probably missing. Nothing is measured on another provider than asked for."
        )


def _load_failure(ort: ModuleType, path: Path, error: Exception) -> str:
    reason = _reason(error)
    newer = re.search(r"opset|ir.?version|no op registered", reason, re.IGNORECASE) is not None
    advice = "upgrade onnxruntime, or export the model again" if newer else "rebuild or restore the file"
    return f"ONNX Runtime {ort.__version__} cannot load {path}: {reason} To go on, {advice}."


def _reason(error: Exception) -> str:
    """Return ONNX Runtime's message as one line, without its error code and the C++ function it arose in."""
    line = " ".join(str(error).split())
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    line = re.sub(r"^Load model from .*? failed: ?", "", line)
    line = re.sub(r"\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])", "", line)
    return f"{line[:_REASON_LENGTH].rstrip('. ')}."


def _spec(value: Any) -> TensorSpec:
    kind = re.sub(r"^tensor\((.*)\)$", r"\1", value.type)
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(name=value.name, shape=shape, dtype=_DTYPES.get(kind, kind))


def _listed(specs: Sequence[TensorSpec]) -> str:
    shapes = (", ".join("any" if size is None else str(size) for size in spec.shape) for spec in specs)
    return (
        " and ".join(f"{spec.name} {spec.dtype} ({shape})" for spec, shape in zip(specs, shapes, strict=True))
        or "nothing"
    )


def _differ(wanted: Sequence[TensorSpec], given: Sequence[TensorSpec]) -> bool:
    """Say whether the feeds themselves explain a failed run."""
    by_name = {spec.name: spec for spec in given}
    return any(spec.name not in by_name or not _fits(spec, by_name[spec.name]) for spec in wanted) or len(
        given
    ) != len(wanted)


def _fits(wanted: TensorSpec, given: TensorSpec) -> bool:
    same_axes = len(wanted.shape) == len(given.shape)
    pairs = zip(wanted.shape, given.shape, strict=False)
    return wanted.dtype == given.dtype and same_axes and all(size in (None, got) for size, got in pairs)
