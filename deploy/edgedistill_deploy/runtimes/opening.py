"""Open a model of a bundle, or a bare file, with a chosen runtime."""

from functools import lru_cache
from importlib import import_module
from pathlib import Path

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.bundle.manifest import MANIFEST
from edgedistill_deploy.bundle.precisions import model_role
from edgedistill_deploy.errors import EdgeDistillError, MissingDependencyError, UsageError, nearest_names
from edgedistill_deploy.files.writing import sha256_of_file
from edgedistill_deploy.onnx_files.safety import (
    Claims,
    read_claims,
    require_affordable,
    require_bounded,
    require_listed_data,
)
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.model import Int8Kernels
from edgedistill_deploy.runtimes.engine_options import DEFAULT_ENGINE, EngineOptions
from edgedistill_deploy.runtimes.session import LIMIT_S, Session, SessionRequest, require_limit, usable_cores

# Each module has open_onnx(request) -> Session, and is imported when its runtime is used.
_ADAPTERS = {
    "onnxruntime": "edgedistill_deploy.runtimes._onnxruntime",
    "tensorrt": "edgedistill_deploy.runtimes.tensorrt.adapter",
}
RUNTIMES = tuple(_ADAPTERS)

_MAX_THREADS = 1024
_DATA_ROLE = ".data"  # appended to the role of a model: the role of the file that holds its weights


def open_session(
    bundle: Bundle | Path,
    *,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    provider: str = "cpu",
    threads: int | None = None,
    engine: EngineOptions = DEFAULT_ENGINE,
    progress: Progress = silent,
    limit_s: float | None = LIMIT_S,
) -> Session:
    """Load a model of a bundle, after checking its file.

    Args:
        bundle: a bundle or its folder.
        runtime: one of `RUNTIMES`.
        precision: one of `bundle.precisions.PRECISIONS`; "teacher" is the teacher restricted to the subtask.
        provider: the runtime's back end, such as "cpu" or "openvino:GPU" (see `providers`). No other is ever used.
        threads: for one run; by default the number of cores that this process may use.
        engine: how TensorRT builds its engine, and where it is kept.
        progress: called while an engine is built, which can take minutes.
        limit_s: how long one run may take; ONNX Runtime is stopped then, between two nodes. A model that plainly needs
            longer for one image is not loaded. None for no limit.

    Raises:
        UsageError: unknown runtime, precision or provider, or a provider that this machine's runtime lacks.
        BundleError: the bundle has no such model, or the model's file was changed, keeps weights in a file other than
            the registered one (role + ".data"), holds loops or tensors that claim more than they hold, or needs more
            time or memory for one image than any sensible model.
        MissingDependencyError: the runtime is not installed.
        EdgeDistillError: the runtime cannot load the model.
    """
    if not isinstance(bundle, Bundle):
        bundle = open_bundle(bundle, verify=False)
    role = bundle.role_for(precision, runtime)
    claims = read_claims(bundle.file(role))
    require_bounded(claims)
    sha256 = bundle.model_sha256(role)
    _require_affordable(claims.path, sha256, limit_s)
    request = SessionRequest(
        path=claims.path,
        sha256=sha256,
        precision=precision,
        provider=provider,
        threads=_thread_count(threads),
        engine=engine,
        progress=progress,
        limit_s=limit_s,
    )
    data_role = f"{role}{_DATA_ROLE}"
    return _open(request, runtime, claims, bundle.file(data_role) if bundle.has(data_role) else None)


def open_model(
    path: Path,
    *,
    precision: str,
    runtime: str = "onnxruntime",
    provider: str = "cpu",
    threads: int | None = None,
    optimised: bool = True,
    data: Path | None = None,
    engine: EngineOptions = DEFAULT_ENGINE,
    progress: Progress = silent,
    limit_s: float | None = LIMIT_S,
    spinning: bool = True,
) -> Session:
    """Load a bare ONNX file; `precision` is what it is meant to compute in. See `open_session`.

    Without `optimised`, the runtime keeps the graph as it is written, to find faults and not to measure. `data` is the
    one file beside the model that may hold its weights; by default the file that a bundle around the model lists.
    Without `spinning`, ONNX Runtime's idle threads sleep: several sessions that take turns do not slow each other.
    """
    model_role(precision)
    if not path.is_file():
        raise EdgeDistillError(f"There is no model file {path}.")
    claims = read_claims(path)
    sha256 = sha256_of_file(path)
    _require_affordable(path, sha256, limit_s)
    request = SessionRequest(
        path=path,
        sha256=sha256,
        precision=precision,
        provider=provider,
        threads=_thread_count(threads),
        optimised=optimised,
        engine=engine,
        progress=progress,
        limit_s=limit_s,
        spinning=spinning,
    )
    return _open(request, runtime, claims, data or _find_listed_data(claims))


def open_as_written(session: Session) -> Session:
    """Load the file of a session with ONNX Runtime, which then computes its graph node by node, in float32."""
    return open_model(session.model_path, precision=session.precision, optimised=False)


def providers_beside_cpu() -> tuple[str, ...]:
    """Return ONNX Runtime's other providers that compute on the processor of `cpu`, such as "openvino".

    They are those that the installed ONNX Runtime offers; whether they can load a model, only a session tells. None
    where ONNX Runtime is not installed.
    """
    try:
        found: tuple[str, ...] = import_module(_ADAPTERS["onnxruntime"]).providers_beside_cpu()
    except MissingDependencyError:
        return ()
    return found


def has_provider(provider: str) -> bool:
    """Return whether the installed ONNX Runtime has a provider; True where it is not installed and nobody can tell.

    Raises UsageError for an unknown name.
    """
    try:
        found: bool = import_module(_ADAPTERS["onnxruntime"]).has_provider(provider)
    except MissingDependencyError:
        return True
    return found


def probe_int8_kernels() -> Int8Kernels | None:
    """Return what ONNX Runtime's INT8 kernels do on this processor; None where the probe does not run.

    Raises MissingDependencyError when ONNX Runtime is not installed.
    """
    found: Int8Kernels | None = import_module(_ADAPTERS["onnxruntime"]).probe_kernels()
    return found


def _open(request: SessionRequest, runtime: str, claims: Claims, data: Path | None) -> Session:
    """Open with the runtime of this name; `data` may hold the weights if it lies beside the model."""
    if runtime not in _ADAPTERS:
        raise UsageError(f"There is no runtime {runtime!r}.{nearest_names(runtime, RUNTIMES)}")
    beside = data is not None and data.resolve().parent == request.path.resolve().parent
    require_listed_data(claims, (data.name,) if data is not None and beside else ())
    session: Session = import_module(_ADAPTERS[runtime]).open_onnx(request)
    return session


@lru_cache(maxsize=64)
def _require_affordable(path: Path, sha256: str, limit_s: float | None) -> None:
    """Raise BundleError for a model that costs too much. A file that passed is not read again with the same content.

    Calibration opens each of its files many times, and reading what one costs takes longer than loading it.
    """
    if limit_s is not None:
        require_limit(limit_s)
        require_affordable(path, limit_s)


def _find_listed_data(claims: Claims) -> Path | None:
    """Return the checked file of weights that a model names, if the bundle around the model lists it."""
    folder = claims.path.parent
    if not claims.data_files or not (folder / MANIFEST).is_file():
        return None
    bundle = open_bundle(folder, verify=False)
    for role, entry in bundle.manifest["files"].items():
        if role.endswith(_DATA_ROLE) and entry["path"] == claims.data_files[0]:
            return bundle.file(role)
    return None


def _thread_count(threads: int | None) -> int:
    if threads is None:
        return usable_cores()
    if not 1 <= threads <= _MAX_THREADS:
        raise UsageError(
            f"threads is {threads}; it must lie between 1 and {_MAX_THREADS}, or be left out for all cores."
        )
    return threads
