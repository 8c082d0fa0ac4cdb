"""What to measure of a bundle's models on this machine, and the measuring: the same here, on a device, and over SSH."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.profiling._alternating import Comparing, compare_models
from edgedistill_deploy.profiling._fresh_process import FreshProcess
from edgedistill_deploy.profiling.cold_start import REPEATS, measure_cold_start
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import SCHEMA, file_part, record_path

# How long the board is watched at rest before its power under load.
_IDLE_S = 3.0


def run_profile(folder: Path, request: ProfileRequest, progress: Progress = silent) -> dict[str, Any]:
    """Measure the models of a bundle, each in a fresh process, and return {"kind": "latency-set", "records": [...]}.

    A record has "sustained", "end_to_end" and "cold_start" beside the latency where these were asked for, and the set
    has "comparison". The note of `progress` says what is being measured. Nothing is written; `write_profile` does that.

    Raises UsageError for a comparison of fewer than two models.
    """
    bundle = open_bundle(folder)
    planned = list(_plan(bundle, request))
    alternatives = [each for each in planned if each.batch_size == request.batch_sizes[0]]
    if request.compare and len(alternatives) < 2:
        raise UsageError("A comparison needs two models at least; name them with --precisions fp32,int8 or --runtimes.")
    profile: dict[str, Any] = {"kind": "latency-set", "schema": SCHEMA}
    profile["records"] = [_measure(bundle, each, request, progress) for each in planned]
    if request.compare:
        config = replace(request.latency, batch_size=request.batch_sizes[0])
        settings = Comparing(
            folder=bundle.path, config=config, margin=request.margin, seed=request.seed, progress=progress
        )
        compared = compare_models([_model(each, request) for each in alternatives], settings)
        profile["comparison"] = _with_hashes(compared, profile["records"])
    return profile


def write_profile(bundle: Bundle, profile: Mapping[str, Any]) -> tuple[Path, ...]:
    """Write every record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run.

    A comparison goes to latency-comparison/DEVICE.json.
    """
    paths = [_write(bundle, record) for record in profile["records"]]
    if profile.get("comparison"):
        name = profile["records"][0]["device"]["name"]
        paths.append(bundle.path / "latency-comparison" / f"{file_part(name)}.json")
        write_json(paths[-1], profile["comparison"])
    return tuple(paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    runtime: str
    precision: str
    batch_size: int


def _plan(bundle: Bundle, request: ProfileRequest) -> Iterator[_Measurement]:
    for runtime in request.runtimes:
        for precision in request.precisions or bundle.precisions_for(runtime):
            for batch_size in request.batch_sizes:
                yield _Measurement(runtime=runtime, precision=precision, batch_size=batch_size)


def _model(chosen: _Measurement, request: ProfileRequest) -> dict[str, Any]:
    """Return what `open_session` takes beside the bundle."""
    return {
        "runtime": chosen.runtime,
        "precision": chosen.precision,
        "provider": request.provider,
        "threads": request.threads,
    }


def _measure(bundle: Bundle, chosen: _Measurement, request: ProfileRequest, progress: Progress) -> dict[str, Any]:
    size = chosen.batch_size
    name = f"{chosen.precision} on {chosen.runtime}, batch {size}"
    folder, model = str(bundle.path.resolve()), _model(chosen, request)
    config, load = asdict(replace(request.latency, batch_size=size)), request.load(size)

    def named(part: str) -> Progress:
        return lambda done, total, note="": progress(done, total, f"{name}{part}")

    with FreshProcess() as process:
        process.ask("open", folder=folder, model=model, batch_size=size)
        record: dict[str, Any] = process.ask("measure", named(""), config=config)
        if load is not None:
            record["sustained"] = process.ask("sustain", named(", arriving"), load=asdict(load))
        if request.end_to_end and size == request.batch_sizes[0]:
            record["end_to_end"] = process.ask("end_to_end", named(", end to end"), config=config)
        if request.layers:
            record.update(process.ask("layers", named(", by node"), batch_size=size))
        if request.power:
            seconds = request.latency.duration_s
            how = {"idle_s": min(_IDLE_S, seconds), "load_s": seconds, "sensor": request.power_sensor}
            record["power"] = process.ask("power", named(", power"), batch_size=size, **how)
    if request.cold_start and size == request.batch_sizes[0]:
        started = measure_cold_start(bundle.path, model, size, REPEATS, named(", cold start"))
        record["cold_start"] = started.to_json()
    return record


def _with_hashes(comparison: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Say of each alternative which file it is, as the records of its own measurement do."""
    hashes = {(record["runtime"], record["precision"]): record["model_sha256"] for record in records}
    alternatives = [
        {**each, "model_sha256": hashes[each["runtime"], each["precision"]]} for each in comparison["alternatives"]
    ]
    return {**comparison, "bundle": records[0]["bundle"], "alternatives": alternatives}


def _write(bundle: Bundle, record: Mapping[str, Any]) -> Path:
    path = record_path(bundle.path, record)
    write_json(path, record)
    return path
