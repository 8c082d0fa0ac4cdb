"""TensorRT 10 and 11 behind the session protocol: build the engine of a model or take it from the cache, prove it, run it.

The bundle travels with ONNX files alone; an engine is made on the device that runs it, and kept in a cache folder there.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError
from edgedistill_deploy.runtimes.session import STAND_IN, SessionRequest
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
    PrecisionProof,
    describe_proof,
    prove_precision,
    read_layers,
    require_precision,
)
from edgedistill_deploy.runtimes.tensorrt.session import Loaded, TensorRtSession, tensors_of

_MAJORS = (10, 11)
_STAND_IN_GPU = "stand-in"  # how the device of the tests' libraries begins its name


def open_onnx(request: SessionRequest) -> TensorRtSession:
    """Load the engine of the requested ONNX file, building it where the cache has none that fits."""
    trt = _imported()
    _require_plain_request(request)
    cuda = open_cuda()
    place = Place(version=trt.__version__, gpu=cuda.gpu())
    provider = STAND_IN if place.gpu.name.startswith(_STAND_IN_GPU) else "tensorrt"
    loaded, record, load_ms = _opened(trt, make_logger(trt), request, place, cuda)
    return TensorRtSession(loaded, cuda, request, provider, record, load_ms)


_Opened = tuple[Loaded, Mapping[str, Any], float]


def _opened(trt: Any, logger: Any, request: SessionRequest, place: Place, cuda: Cuda) -> _Opened:
    if request.engine.file is not None:
        return _from_file(trt, logger, request.engine.file, request, place)
    path = engine_path(request.path, request.sha256, place, request.engine)
    found = _from_cache(trt, logger, path, request, place)
    return _from_model(trt, logger, path, request, place, cuda, found) if isinstance(found, str) else found


def _from_cache(trt: Any, logger: Any, path: Path, request: SessionRequest, place: Place) -> _Opened | str:
    """Return the cached engine, or why there is none to use: "" when there simply is none yet."""
    if not path.exists():
        return ""
    try:
        return _from_file(trt, logger, path, request, place)
    except UnfitEngineError as error:
        return str(error)


def _from_file(trt: Any, logger: Any, path: Path, request: SessionRequest, place: Place) -> _Opened:
    plan, record = read_engine(path, request.sha256, place)
    if record["options"]["version_compatible"] and not request.engine.version_compatible:
        raise UnfitEngineError(
            f"{path} is version-compatible and so carries code that would run here; if you trust where it comes from, load it with"
            " --version-compatible."
        )
    loaded, load_ms = _loaded(trt, logger, plan, request, path)
    return loaded, {**record, "path": str(path), "cached": True, "rebuilt_because": None}, load_ms


def _from_model(
    trt: Any,
    logger: Any,
    path: Path,
    request: SessionRequest,
    place: Place,
    cuda: Cuda,
    reason: str,
) -> _Opened:
    """Build, load, prove and only then keep an engine; `reason` is why a cached one was not taken."""
    options = request.engine
    free_bytes, _ = cuda.memory()
    timing_cache = timing_cache_path(place, options)
    built = build_plan(trt, logger, request.path, options, free_bytes, timing_cache, request.progress)
    loaded, load_ms = _loaded(trt, logger, built.plan, request, path)
    layers = read_layers(_inspect(loaded, options.opt_batch))
    proof = prove_precision(request.path, request.precision, layers)
    require_precision(request.path, proof)
    record = _record(request, place, cuda, built, proof, [asdict(layer) for layer in layers])
    full = write_engine(path, built.plan, record)
    return loaded, {**full, "path": str(path), "cached": False, "rebuilt_because": reason or None}, load_ms


def _loaded(trt: Any, logger: Any, plan: bytes, request: SessionRequest, path: Path) -> tuple[Loaded, float]:
    start = request.clock()
    runtime = trt.Runtime(logger)
    # Without it TensorRT refuses version-compatible plans, which carry code of their own.
    runtime.engine_host_code_allowed = request.engine.version_compatible
    engine = runtime.deserialize_cuda_engine(plan)
    context = None if engine is None else engine.create_execution_context()
    if context is None:
        said = logger.errors[-1] if logger.errors else "it gives no reason"
        raise UnfitEngineError(f"TensorRT {trt.__version__} cannot load {path}: {said}")
    loaded = Loaded(trt=trt, logger=logger, runtime=runtime, engine=engine, context=context)
    return loaded, (request.clock() - start) / 1e6


def _inspect(loaded: Loaded, batch_size: int) -> str:
    """Return the inspector's JSON; formats are told only for a context whose shapes are set."""
    inputs, _ = tensors_of(loaded)
    for spec in inputs:
        shape = tuple(batch_size if size is None else size for size in spec.shape)
        loaded.context.set_input_shape(spec.name, shape)
    inspector = loaded.engine.create_engine_inspector()
    inspector.execution_context = loaded.context
    information: str = inspector.get_engine_information(loaded.trt.LayerInformationFormat.JSON)
    return information


def _record(
    request: SessionRequest,
    place: Place,
    cuda: Cuda,
    built: BuiltPlan,
    proof: PrecisionProof,
    layers: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "onnx": {"name": request.path.name, "sha256": request.sha256},
        "precision": request.precision,
        "tensorrt": place.version,
        "cuda": cuda.library,
        "gpu": {"name": place.gpu.name, "compute_capability": place.gpu.capability},
        "options": request.engine.to_json(),
        "workspace_bytes": built.workspace_bytes,
        "build_s": built.build_s,
        "proof": {**proof.to_json(), "detail": describe_proof(proof)},
        "layers": layers,
    }


def _imported() -> ModuleType:
    try:
        import tensorrt
    except ModuleNotFoundError as error:
        if error.name != "tensorrt":
            raise EdgeDistillError(_unloadable(error)) from error
        raise MissingDependencyError("tensorrt", "tensorrt", "Running a model with TensorRT") from error
    except (ImportError, OSError) as error:
        raise EdgeDistillError(_unloadable(error)) from error
    module: ModuleType = tensorrt
    _require_known_major(str(module.__version__))
    return module


def _unloadable(error: Exception) -> str:
    return (
        f"TensorRT is installed but cannot be loaded: {error}; its libraries must match it and the installed CUDA, see"
        " docs/tensorrt.md."
    )


def _require_known_major(version: str) -> None:
    if not version.startswith(tuple(f"{major}." for major in _MAJORS)):
        raise EdgeDistillError(
            f"TensorRT {version} is installed, and edgedistill runs with TensorRT 10 and 11; install one of these (JetPack 6.1 and later"
            " have TensorRT 10)."
        )


def _require_plain_request(request: SessionRequest) -> None:
    # "cpu" is what callers hand on when nobody asked for a provider.
    if request.provider not in ("tensorrt", "cuda", "cpu"):
        raise UsageError(f"TensorRT runs on the GPU, not on {request.provider}; leave the provider out.")
    if not request.optimised:
        raise UsageError(
            "TensorRT cannot run a graph as it is written, it fuses nodes always; use the runtime onnxruntime for that."
        )
