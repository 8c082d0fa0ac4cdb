"""Profile and validate on other machines: progress line by line, one table, one JSON document, one exit code."""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.exit_codes import Outcome
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import judged_precisions
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict

if TYPE_CHECKING:
    from edgedistill_cli.bundles.profiling import Gates
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.validation import ValidationRequest
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.progress import Progress
    from edgedistill_deploy.remote.inventory import Device
    from edgedistill_deploy.remote.jobs import DeviceOutcome, RemoteJob

_SPEAK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The devices that were named, and how to treat them; `runtime` and `provider` are None where no flag gave them."""

    names: tuple[str, ...]
    runtime: str | None = None
    provider: str | None = None
    keep: bool = False
    wait_s: float = 0.0

    @classmethod
    def of(cls, context: typer.Context, names: Sequence[str], keep: bool, wait_s: float | None) -> "Targets":
        """Take the flags of a command; a default that nobody typed leaves the choice to each device."""
        return cls(
            names=tuple(names),
            runtime=_find_typed(context, "runtime") or _find_typed(context, "runtimes"),
            provider=_find_typed(context, "provider"),
            keep=keep,
            wait_s=wait_s or 0.0,
        )


def require_devices(names: Sequence[str] | None, flags: Mapping[str, object]) -> None:
    """Raise UsageError for flags that speak of devices where none is named."""
    given = [name for name, value in flags.items() if value]
    if not names and given:
        raise UsageError(f"{given[0]} belongs to --device; name one, such as --device ssh://pi@raspberrypi.local.")


def require_local(names: Sequence[str] | None, flags: Mapping[str, object]) -> None:
    """Raise UsageError for flags that need the models on this machine, where a device is named."""
    given = [name for name, value in flags.items() if value]
    if names and given:
        raise UsageError(f"{given[0]} works on this machine alone; leave it out, or leave out --device.")


def profile_on_devices(
    bundle: Bundle, console: Console, targets: Targets, request: "ProfileRequest", gates: "Gates"
) -> Outcome:
    """Measure on every device, write the records into the bundle, show them, and return the verdict on all of them."""
    from edgedistill_cli.tables.latency import show_profile
    from edgedistill_deploy.profiling.run import write_profile
    from edgedistill_deploy.recommendation.choice import record_choices
    from edgedistill_deploy.remote.tasks import profile_job

    devices = _devices(targets)
    job = profile_job(bundle, request, devices, _build_choice(targets), keep=targets.keep, wait_s=targets.wait_s)
    outcomes = _run_job(devices, job, console)
    judged = []
    for outcome in outcomes:
        if outcome.result is not None:
            write_profile(bundle, outcome.result)
            outcome = replace(outcome, result=gates.judge(outcome.result))
        judged.append(outcome)
    record_choices(bundle)
    verdict = _emit("profile", judged, gates.verdict, console)
    _show_latencies(judged, console)
    for each in judged:
        if each.result is not None and _has_more(each.result):
            show_profile(each.result, console)
    return verdict


def _has_more(profile: Mapping[str, Any]) -> bool:
    """Say whether more was asked for than the table of all devices shows."""
    more = {"sustained", "end_to_end", "cold_start", "layers", "power", "budget", "against"}
    return "comparison" in profile or any(more & set(record) for record in profile["records"])


def validate_on_devices(
    bundle: Bundle, console: Console, targets: Targets, request: "ValidationRequest", images: "ImageSet | None"
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Judge the models on every device, write and show the records; return the verdict on all of them, and the
    records."""
    from edgedistill_deploy.remote.tasks import validate_job, write_prepared

    devices = _devices(targets)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = None if images is None else Path(scratch) / "reference.npz"
        if images is not None and prepared is not None:
            write_prepared(bundle, images, prepared)
        job = validate_job(
            bundle,
            request.limits,
            devices,
            _build_choice(targets),
            precisions=request.precisions,
            threads=request.threads,
            reference=prepared,
            keep=targets.keep,
            wait_s=targets.wait_s,
        )
        outcomes = _run_job(devices, job, console)
    for outcome in outcomes:
        _write_parities(bundle, outcome.result)
    verdict = _emit("validate", outcomes, _parity_verdict, console)
    _show_parities(outcomes, console)
    return verdict, [record for outcome in outcomes for record in _records(outcome)]


def _find_typed(context: typer.Context, name: str) -> str | None:
    source = context.get_parameter_source(name)
    typed = source is not None and source.name != "DEFAULT"
    return str(context.params[name]) if typed else None


def _devices(targets: Targets) -> "list[Device]":
    from edgedistill_deploy.remote.inventory import find_device

    return [find_device(name) for name in targets.names]


def _build_choice(targets: Targets) -> Any:
    from edgedistill_deploy.remote.tasks import RuntimeChoice

    return RuntimeChoice(runtime=targets.runtime, provider=targets.provider)


def _run_job(devices: "Sequence[Device]", job: "RemoteJob", console: Console) -> "tuple[DeviceOutcome, ...]":
    from edgedistill_deploy.remote.jobs import run_on_devices

    outcomes = run_on_devices(devices, job, lambda device: _make_progress(device, console))
    for outcome in outcomes:
        if outcome.error is not None:
            typer.echo(f"error: {outcome.error}", err=True)
        else:
            sent = f"{outcome.sent_bytes / 1e6:.1f} MB sent in {outcome.sent_files} files"
            console.say(f"{outcome.device.name}: done in {outcome.seconds:.0f} s, {sent}")
    return outcomes


def _make_progress(device: "Device", console: Console) -> "Progress":
    """Return what says how far a device is: each new step at once, its progress every few seconds."""
    step, spoken = "", 0.0

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal step, spoken
        now = time.monotonic()
        if note == step and now - spoken < _SPEAK_EVERY_S:
            return
        step, spoken = note, now
        share = f", {100 * done // total} %" if total > 0 and done else ""
        console.say(f"{device.name}: {note}{share}")

    return report


def _emit(
    task: str, outcomes: "Sequence[DeviceOutcome]", judge: Callable[[Mapping[str, Any]], Verdict], console: Console
) -> Outcome:
    """Write the one JSON document and return the verdict: "error" when a device failed, else the worst of `judge`."""
    entries, verdicts = [], []
    for outcome in outcomes:
        entry = {**outcome.to_json(), "records": _records(outcome)}
        if outcome.result is not None:
            entry["verdict"] = judge(outcome.result)
            verdicts.append(entry["verdict"])
            entry.update({key: outcome.result[key] for key in ("chain", "comparison") if outcome.result.get(key)})
        entries.append(entry)
    verdict: Outcome = worst_verdict(verdicts) if len(verdicts) == len(outcomes) else "error"
    console.emit({"kind": "device-set", "schema": 1, "task": task, "devices": entries, "verdict": verdict})
    return verdict


def _records(outcome: "DeviceOutcome") -> list[dict[str, Any]]:
    return [] if outcome.result is None else list(outcome.result["records"])


def _write_parities(bundle: Bundle, result: Mapping[str, Any] | None) -> None:
    from edgedistill_deploy.parity.chain import write_chain
    from edgedistill_deploy.parity.check import write_parity

    if result is None:
        return
    for record in result["records"]:
        write_parity(bundle, record)
    if result["chain"] is not None and len(result["records"]) > 1:
        write_chain(bundle, result["chain"])


def _parity_verdict(result: Mapping[str, Any]) -> Verdict:
    counted = judged_precisions(record["precision"] for record in result["records"])
    return worst_verdict(each["verdict"] for each in result["records"] if each["precision"] in counted)


def _show_latencies(outcomes: "Sequence[DeviceOutcome]", console: Console) -> None:
    rows = []
    for outcome in outcomes:
        for record in _records(outcome):
            rows.append(
                [
                    record["device"]["name"],
                    label_of(record["precision"]),
                    f"{record['runtime']} {record['provider']}",
                    f"{record['batch_size']}, {record['threads']}",
                    words.milliseconds(record["p50_ms"]),
                    words.milliseconds(record["p90_ms"]),
                    words.milliseconds(record["p99_ms"]),
                    words.quantity(record["throughput_per_s"]),
                    words.size(record["peak_memory_bytes"]),
                    ", ".join(record["flags"]) or "none",
                ]
            )
        if outcome.result is None:
            rows.append([outcome.device.name, "failed", *[words.MISSING] * 8])
    columns = ["device", "model", "runtime", "batch, threads", "p50", "p90", "p99", "images a second"]
    console.table("Latency on the devices", [*columns, "peak memory", "doubts"], rows)


def _show_parities(outcomes: "Sequence[DeviceOutcome]", console: Console) -> None:
    rows = []
    for outcome in outcomes:
        for record in _records(outcome):
            accuracy = record["accuracy"]
            drop = accuracy["drop"]
            rows.append(
                [
                    record["device"],
                    label_of(record["precision"]),
                    f"{record['runtime']} {record['provider']}",
                    str(record["sample_count"]),
                    words.percent(accuracy["teacher"]),
                    words.percent(accuracy["candidate"]),
                    words.MISSING if drop is None else words.bare_points(drop),
                    words.points_interval(tuple(accuracy["interval"])) if drop is not None else words.MISSING,
                    words.percent(record["agreement"]),
                    record["verdict"],
                ]
            )
        if outcome.result is None:
            rows.append([outcome.device.name, "failed", *[words.MISSING] * 8])
    columns = ["device", "model", "runtime", "images", "teacher", "accuracy", "drop, points", "interval"]
    console.table("Parity with the teacher on the devices", [*columns, "agreement", "verdict"], rows)
    for outcome in outcomes:
        for record in _records(outcome):
            for reason in record["reasons"]:
                console.result(f"{record['device']}, {label_of(record['precision'])}: {reason}")
