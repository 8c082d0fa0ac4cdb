"""TensorRT 10 and 11 behind the session protocol: build a model's engine or take it from the cache, prove it, run it.

A bundle has only ONNX files. The device that runs an engine makes it and keeps it in a cache folder.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.runtimes.session import SessionRequest
from edgedistill_deploy.runtimes.tensorrt._build import BuiltPlan, build_plan, make_logger
from edgedistill_deploy.runtimes.tensorrt._cache import (
    Place,
    UnfitEngineError,
    engine_path,
    read_engine,
    timing_cache_path,
    write_engine,
)
from edgedistill_deploy.runtimes.tensorrt._cudart import Cuda, open_cuda
from edgedistill_deploy.runtimes.tensorrt._proof import (
    EngineLayer,
    PrecisionProof,
    describe_proof,
    prove_precision,
    read_layers,
    require_precision,
)
from edgedistill_deploy.runtimes.tensorrt.session import Loaded, TensorRtSession, tensors_of

_MAJORS = (10, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What to open, with what, and where."""

    trt: Any
    logger: Any
    request: SessionRequest
    cuda: Cuda
    place: Place


def open_onnx(request: SessionRequest) -> TensorRtSession:
    """Load the engine of the requested ONNX file. Build it where the cache has none that fits."""
    trt = _import_tensorrt()
    _require_plain_request(request)
    cuda = open_cuda()
    place = Place(version=trt.__version__, gpu=cuda.gpu())
    asked = _Asked(trt=trt, logger=make_logger(trt), request=request, cuda=cuda, place=place)
    if request.engine.file is not None:
        return _open_file(asked, request.engine.file)
    path, reason = engine_path(request.path, request.sha256, place, request.engine), ""
    if path.exists():
        try:
            return _open_file(asked, path)
        except UnfitEngineError as error:
            reason = str(error)
    return _build(asked, path, reason)


def _open_file(asked: _Asked, path: Path) -> TensorRtSession:
    plan, record = read_engine(path, asked.request.sha256, asked.place)
    if record["options"]["version_compatible"] and not asked.request.engine.version_compatible:
        raise UnfitEngineError(
            f"{path} is version-compatible and so carries code that would run here; if you trust where it comes from, "
            "load it with --version-compatible."
        )
    loaded, load_ms = _load(asked, plan, path)
    told = {**record, "path": str(path), "cached": True, "rebuilt_because": None}
    return TensorRtSession(loaded, asked.cuda, asked.request, told, load_ms)


def _build(asked: _Asked, path: Path, reason: str) -> TensorRtSession:
    """Build, load, prove and then keep an engine; `reason` says why a cached one was not used."""
    request = asked.request
    timing_cache = timing_cache_path(asked.place, request.engine)
    built = build_plan(asked.trt, asked.logger, request, asked.cuda.memory()[0], timing_cache)
    loaded, load_ms = _load(asked, built.plan, path)
    layers = read_layers(_inspect(loaded, request.engine.opt_batch))
    proof = prove_precision(request.path, request.precision, layers)
    require_precision(request.path, proof)
    full = write_engine(path, built.plan, _record(asked, built, proof, layers))
    told = {**full, "path": str(path), "cached": False, "rebuilt_because": reason or None}
    return TensorRtSession(loaded, asked.cuda, request, told, load_ms)


def _load(asked: _Asked, plan: bytes, path: Path) -> tuple[Loaded, float]:
    trt, logger, request = asked.trt, asked.logger, asked.request
    start_ns = request.clock.now_ns()
    runtime = trt.Runtime(logger)
    # Without it TensorRT refuses version-compatible plans, which carry their own code.
    runtime.engine_host_code_allowed = request.engine.version_compatible
    engine = runtime.deserialize_cuda_engine(plan)
    context = None if engine is None else engine.create_execution_context()
    if context is None:
        said = logger.errors[-1] if logger.errors else "it gives no reason"
        raise UnfitEngineError(f"TensorRT {trt.__version__} cannot load {path}: {said}")
    loaded = Loaded(trt=trt, logger=logger, runtime=runtime, engine=engine, context=context)
    return loaded, (request.clock.now_ns() - start_ns) / 1e6


def _inspect(loaded: Loaded, batch_size: int) -> str:
    """Return the inspector's JSON, which has formats only for a context whose shapes are set."""
    inputs, _ = tensors_of(loaded)
    for spec in inputs:
        shape = tuple(batch_size if size is None else size for size in spec.shape)
        loaded.context.set_input_shape(spec.name, shape)
    inspector = loaded.engine.create_engine_inspector()
    inspector.execution_context = loaded.context
    return str(inspector.get_engine_information(loaded.trt.LayerInformationFormat.JSON))


def _record(asked: _Asked, built: BuiltPlan, proof: PrecisionProof, layers: Sequence[EngineLayer]) -> dict[str, Any]:
    request, place = asked.request, asked.place
    return {
        "onnx": {"name": request.path.name, "sha256": request.sha256},
        "precision": request.precision,
        "tensorrt": place.version,
        "cuda": asked.cuda.library,
        "gpu": {"name": place.gpu.name, "compute_capability": place.gpu.capability},
        "options": request.engine.to_json(),
        "workspace_bytes": built.workspace_bytes,
        "build_s": built.build_s,
        "proof": {**proof.to_json(), "detail": describe_proof(proof)},
        "layers": [asdict(layer) for layer in layers],
    }


def _import_tensorrt() -> ModuleType:
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            raise MissingDependencyError("tensorrt", "tensorrt", "Running a model with TensorRT") from error
        raise EdgeDistillError(
            f"TensorRT is installed but cannot be loaded: {error}; its libraries must match it and the installed CUDA, "
            "see docs/tensorrt.md."
        ) from error
    module: ModuleType = tensorrt
    version = str(module.__version__)
    if not version.startswith(tuple(f"{major}." for major in _MAJORS)):
        raise EdgeDistillError(
            f"TensorRT {version} is installed, and edgedistill runs with TensorRT 10 and 11; install one of these "
            "(JetPack 6.1 and later have TensorRT 10)."
        )
    return module


def _require_plain_request(request: SessionRequest) -> None:
    # Callers pass "cpu" when the user asked for no provider.
    if request.provider not in ("tensorrt", "cuda", "cpu"):
        raise UsageError(f"TensorRT runs on the GPU, not on {request.provider}; leave the provider out.")
    if not request.optimised:
        raise UsageError(
            "TensorRT cannot run a graph as it is written, because it always fuses nodes; use the runtime onnxruntime."
        )
