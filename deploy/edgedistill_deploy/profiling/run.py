"""The measuring of a bundle's models on this machine; a device runs the same code over SSH."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import EdgeDistillError, UsageError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.latency.interleaved import name_of
from edgedistill_deploy.profiling._alternating import Comparing, compare_models
from edgedistill_deploy.profiling._fresh_process import FreshProcess
from edgedistill_deploy.profiling.cold_start import REPEATS, measure_cold_start
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.progress import Progress, silent
from edgedistill_deploy.records.writing import SCHEMA, file_part, record_path

_MODEL = ("runtime", "provider", "precision")  # what tells the alternatives of a comparison apart
_IDLE_S = 3.0  # the board's power at rest is read for so long, before its power under load


def run_profile(folder: Path, request: ProfileRequest, progress: Progress = silent) -> dict[str, Any]:
    """Measure the models of a bundle, each in a fresh process, and return {"kind": "latency-set", "records": [...]}.

    If the request asks for them, a record also has "sustained", "end_to_end" and "cold_start", and the set has
    "comparison". If it has added providers, the set has "added", those of them that were measured, and "left_out",
    what could not be measured there and why. The note of `progress` says what is being measured. `write_profile`
    writes the result.

    Raises UsageError for a comparison of fewer than two models.
    """
    bundle = open_bundle(folder)
    planned = _plan(bundle, request, request.places())
    alternatives = [model for model, size in planned if size == request.batch_sizes[0]]
    if request.compare and len(alternatives) < 2:
        raise UsageError(
            "A comparison needs two models at least; name them with --precisions fp32,int8, --runtimes or --providers."
        )
    profile: dict[str, Any] = {"kind": "latency-set", "schema": SCHEMA}
    profile["records"] = [_measure(bundle, model, size, request, progress) for model, size in planned]
    if added := _plan(bundle, request, request.added_places()):
        profile = _with_added(profile, bundle, request, added, progress)
    if request.compare:
        config = replace(request.latency, batch_size=request.batch_sizes[0])
        settings = Comparing(
            folder=bundle.path,
            config=config,
            margin=request.margin,
            seed=request.seed,
            limit_s=request.limit_s,
            progress=progress,
        )
        profile["comparison"] = _with_hashes(compare_models(alternatives, settings), profile["records"])
    return profile


def write_profile(bundle: Bundle, profile: Mapping[str, Any], folder: Path | None = None) -> tuple[Path, ...]:
    """Write every record to latency/DEVICE-RUNTIME-PRECISION.json in the bundle, with -bN for N images a run.

    A comparison goes to latency-comparison/DEVICE.json. All are written in `folder` instead, if one is given.
    """
    root = folder or bundle.path
    written = [(record_path(root, record), record) for record in profile["records"]]
    if profile.get("comparison"):
        name = profile["records"][0]["device"]["name"]
        written.append((root / "latency-comparison" / f"{file_part(name)}.json", profile["comparison"]))
    for path, record in written:
        write_json(path, record, inside=root)
    return tuple(path for path, _ in written)


def _plan(
    bundle: Bundle, request: ProfileRequest, places: Sequence[tuple[str, str]]
) -> list[tuple[dict[str, Any], int]]:
    """Return for each record the arguments of `open_session` except the bundle, and the batch size."""
    return [
        ({"runtime": runtime, "precision": precision, "provider": provider, "threads": request.threads}, size)
        for runtime, provider in places
        for precision in request.precisions or bundle.precisions_here(runtime)
        for size in request.batch_sizes
    ]


def _with_added(
    profile: Mapping[str, Any],
    bundle: Bundle,
    request: ProfileRequest,
    planned: Sequence[tuple[dict[str, Any], int]],
    progress: Progress,
) -> dict[str, Any]:
    """Measure what nobody asked for as far as that is possible; return the set with its records and its failures."""
    records, left_out = list(profile["records"]), []
    for model, size in planned:
        try:
            records.append(_measure(bundle, model, size, request, progress))
        except EdgeDistillError as error:
            left_out.append({**model, "batch_size": size, "reason": str(error)})
    measured = dict.fromkeys(record["provider"] for record in records[len(profile["records"]) :])
    return {**profile, "records": records, "added": list(measured), "left_out": left_out}


def _measure(
    bundle: Bundle, model: Mapping[str, Any], size: int, request: ProfileRequest, progress: Progress
) -> dict[str, Any]:
    config, load = asdict(replace(request.latency, batch_size=size)), request.load(size)

    def named(part: str) -> Progress:
        what = f"{name_of(model)}, batch {size}{part}"
        # A note without an amount is a message, and not the name of a part.
        return lambda done, total, note="": progress(done, total, f"{what}: {note}" if note and not total else what)

    with FreshProcess() as process:
        process.ask(
            "open", folder=str(bundle.path.resolve()), model={**model, "limit_s": request.limit_s}, batch_size=size
        )
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
        record["cold_start"] = measure_cold_start(bundle.path, model, size, REPEATS, named(", cold start")).to_json()
    return record


def _with_hashes(comparison: dict[str, Any], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Add the bundle, and to each alternative the sha256 of its model, from the records of the measurements."""
    hashes = {tuple(record[name] for name in _MODEL): record["model_sha256"] for record in records}
    alternatives = [
        {**each, "model_sha256": hashes[tuple(each[name] for name in _MODEL)]} for each in comparison["alternatives"]
    ]
    return {**comparison, "bundle": records[0]["bundle"], "alternatives": alternatives}
