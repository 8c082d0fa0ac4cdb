"""Engines on disk: the plain plan, which trtexec also loads, and a JSON sidecar that says what it is and where it runs.

A plan runs only on the TensorRT and GPU that it was built for. TensorRT's own errors name magic tags, or it crashes. So
the sidecar and the plan's hash are checked before TensorRT gets the plan.
"""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import sha256_of_file, write_bytes, write_json
from edgedistill_deploy.runtimes.engine_options import EngineOptions
from edgedistill_deploy.runtimes.tensorrt._cudart import Gpu

SCHEMA = 1
_AMPERE = (8, 0)
_MOST_SIDECAR_BYTES = 64 << 20


class UnfitEngineError(EdgeDistillError):
    """An engine file that is damaged, or made for another model, TensorRT or GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where engines run: TensorRT's version and the GPU."""

    version: str
    gpu: Gpu


def engine_path(model: Path, sha256: str, place: Place, options: EngineOptions) -> Path:
    """Return where a model's engine is kept. The name has a hash of all that the engine depends on."""
    identity = {
        "onnx": sha256,
        "tensorrt": place.version,
        "gpu": place.gpu.name,
        "compute_capability": place.gpu.capability,
        "system": f"{sys.platform}-{platform.machine()}",
        **options.to_json(),
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return options.folder / f"{model.stem}-{key[:16]}.engine"


def timing_cache_path(place: Place, options: EngineOptions) -> Path:
    """Return the path of the kernel times of a TensorRT version on a GPU."""
    gpu = re.sub(r"[^a-z0-9]+", "-", place.gpu.name.lower()).strip("-")
    return options.folder / f"timing-{place.version}-{gpu}-sm{place.gpu.capability}.cache"


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine's JSON."""
    return engine.with_suffix(".json")


def write_engine(path: Path, plan: bytes, record: Mapping[str, Any]) -> dict[str, Any]:
    """Write the plan and then its sidecar, each whole, and return the sidecar's content."""
    write_bytes(path, plan)
    full = {
        "kind": "engine",
        "schema": SCHEMA,
        **record,
        "engine": {"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)},
    }
    write_json(sidecar_path(path), full)
    return full


def read_engine(path: Path, onnx_sha256: str, place: Place) -> tuple[bytes, dict[str, Any]]:
    """Return the plan and its sidecar's content. TensorRT does not see the plan yet.

    Raises UnfitEngineError saying what does not fit.
    """
    record = _read_sidecar(path)
    if record["onnx"]["sha256"] != onnx_sha256:
        raise UnfitEngineError(f"{path} was built from another model, {record['onnx']['name']}; build it again.")
    require_same_tensorrt(path, record, place)
    require_same_gpu(path, record, place)
    if not path.is_file() or sha256_of_file(path) != record["engine"]["sha256"]:
        raise UnfitEngineError(f"{path} is missing or was changed after it was built; build it again.")
    return path.read_bytes(), record


def require_same_tensorrt(path: Path, record: Mapping[str, Any], place: Place) -> None:
    """Raise UnfitEngineError when this TensorRT cannot load a plan of the one that built it.

    NVIDIA's rule is exactly the same version. With version compatibility, a later version of the same major version
    also loads it, and TensorRT 11 loads a plan of TensorRT 10.
    """
    built = str(record["tensorrt"])
    if built == place.version:
        return
    then, now = _numbers(built), _numbers(place.version)
    if not record["options"]["version_compatible"]:
        raise UnfitEngineError(
            f"{path} was built by TensorRT {built}, and this is TensorRT {place.version}: a plan runs on the version "
            "that built it; build it again here, or with --version-compatible for later versions."
        )
    if then > now or (then[:1] != now[:1] and (then[0], now[0]) != (10, 11)):
        raise UnfitEngineError(
            f"{path} was built by TensorRT {built}, version-compatible, and this is TensorRT {place.version}: such a "
            "plan runs on later TensorRTs of its major version, and one of 10 on 11; build it again here."
        )


def require_same_gpu(path: Path, record: Mapping[str, Any], place: Place) -> None:
    """Raise UnfitEngineError when this GPU cannot run the plan."""
    built = tuple(int(part) for part in str(record["gpu"]["compute_capability"]).split("."))
    here = place.gpu.compute_capability
    if built == here:
        return
    given = f"{path} was built for {record['gpu']['name']} (compute capability {record['gpu']['compute_capability']})"
    if not record["options"]["hardware_compatible"]:
        raise UnfitEngineError(
            f"{given}, and this is {place.gpu.name} ({place.gpu.capability}); build it again here, or with "
            "--hardware-compatible for several GPUs."
        )
    if here < _AMPERE:
        raise UnfitEngineError(
            f"{given}, hardware-compatible, which begins with Ampere (8.0), and this is {place.gpu.name} "
            f"({place.gpu.capability}); build it again here."
        )


def _read_sidecar(path: Path) -> dict[str, Any]:
    sidecar = sidecar_path(path)
    try:
        if sidecar.stat().st_size > _MOST_SIDECAR_BYTES:
            raise UnfitEngineError(f"{sidecar} is far too large for what describes an engine; build it again.")
        record = json.loads(sidecar.read_bytes())
        _require_described(record)
        return dict(record)
    except OSError as error:
        raise UnfitEngineError(
            f"{path} has no readable {sidecar.name} beside it, which says what it was built from and for"
            f" ({error.strerror or error}); build it again."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnfitEngineError(f"{sidecar} does not describe an engine; build it again.") from error


def _require_described(record: Any) -> None:
    """Raise KeyError, ValueError, TypeError or AttributeError when something that loading needs is missing."""
    if record["kind"] != "engine" or record["schema"] != SCHEMA:
        raise ValueError("another kind of record")
    str(record["onnx"]["sha256"] + record["onnx"]["name"] + record["engine"]["sha256"] + record["gpu"]["name"])
    _numbers(record["tensorrt"])
    _numbers(record["gpu"]["compute_capability"])
    bool(record["options"]["version_compatible"] or record["options"]["hardware_compatible"])


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's leading numbers, (10, 3, 0) of 10.3.0 or 10.3.0.post1."""
    found = re.match(r"\d+(\.\d+)*", version)
    if found is None:
        raise ValueError(f"{version} is no version")
    return tuple(int(part) for part in found.group().split("."))
