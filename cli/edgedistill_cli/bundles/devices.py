"""Profile and validate on other machines, with one table, one JSON document and one exit code for all."""

import functools
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from edgedistill_cli.console import PLAIN_INTERVAL_S, Console
from edgedistill_cli.exit_codes import Outcome
from edgedistill_deploy import wording as words
from edgedistill_deploy.bundle.folder import Bundle
from edgedistill_deploy.bundle.precisions import judged_precisions
from edgedistill_deploy.errors import UsageError
from edgedistill_deploy.files.names import printable
from edgedistill_deploy.recommendation.summary import label_of
from edgedistill_deploy.statistics.verdicts import Verdict, worst_verdict

if TYPE_CHECKING:
    from edgedistill_cli.bundles.profiling import Gates
    from edgedistill_cli.bundles.recording import Recorder
    from edgedistill_deploy.images.sets import ImageSet
    from edgedistill_deploy.parity.validation import ValidationRequest
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.progress import Progress
    from edgedistill_deploy.remote.inventory import Device
    from edgedistill_deploy.remote.jobs import DeviceOutcome, RemoteJob
    from edgedistill_deploy.remote.tasks import RuntimeChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The named devices and the flags for them."""

    names: tuple[str, ...]
    choice: "RuntimeChoice"
    keep: bool
    wait_s: float

    @classmethod
    def of(cls, context: typer.Context, names: Sequence[str], keep: bool, wait_s: float | None) -> "Targets":
        """Take the flags of a command; each device chooses the runtime and provider that nobody typed."""
        from edgedistill_deploy.remote.tasks import RuntimeChoice

        runtime = _find_typed(context, "runtime") or _find_typed(context, "runtimes")
        provider = _find_typed(context, "provider") or _find_typed(context, "providers")
        choice = RuntimeChoice(runtime=runtime, provider=provider)
        return cls(names=tuple(names), choice=choice, keep=keep, wait_s=wait_s or 0.0)

    def find_devices(self) -> "list[Device]":
        """Return the devices by their names."""
        from edgedistill_deploy.remote.inventory import find_device

        return [find_device(name) for name in self.names]


def require_devices(names: Sequence[str] | None, flags: Mapping[str, object]) -> None:
    """Raise UsageError for a flag that needs a device when none is named."""
    given = [name for name, value in flags.items() if value]
    if not names and given:
        raise UsageError(f"{given[0]} belongs to --device; name one, such as --device ssh://pi@raspberrypi.local.")


def require_local(names: Sequence[str] | None, flags: Mapping[str, object]) -> None:
    """Raise UsageError for a flag that needs the models on this machine when a device is named."""
    given = [name for name, value in flags.items() if value]
    if names and given:
        raise UsageError(f"{given[0]} works on this machine alone; leave it out, or leave out --device.")


def profile_on_devices(
    bundle: Bundle, recorder: "Recorder", targets: Targets, request: "ProfileRequest", gates: "Gates"
) -> Outcome:
    """Measure on every device, write the records, show them, and return the verdict on all of them."""
    from edgedistill_cli.tables.latency import show_profile
    from edgedistill_deploy.profiling.run import write_profile
    from edgedistill_deploy.remote.tasks import profile_job

    console = recorder.console
    devices = targets.find_devices()
    job = profile_job(bundle, request, devices, targets.choice, keep=targets.keep, wait_s=targets.wait_s)
    judged = []
    for outcome in _run_job(devices, job, console):
        if outcome.result is not None:
            recorder.keep(functools.partial(write_profile, bundle, outcome.result, recorder.folder))
            outcome = replace(outcome, result=gates.judge(outcome.result))
        judged.append(outcome)
    recorder.keep_choices(bundle)
    verdict = _emit("profile", judged, gates.verdict, console)
    columns = ["batch, threads", "p50", "p90", "p99", "images a second", "peak memory", "doubts"]
    _show_table("Latency on the devices", columns, judged, _latency_row, console)
    for each in judged:
        if each.result is not None and _has_more(each.result):
            show_profile(each.result, console)
    return verdict


def _has_more(profile: Mapping[str, Any]) -> bool:
    """Tell whether the profile holds more than the table of all devices shows."""
    more = {"sustained", "end_to_end", "cold_start", "layers", "power", "budget", "against"}
    return "comparison" in profile or any(more & set(record) for record in profile["records"])


def validate_on_devices(
    bundle: Bundle, recorder: "Recorder", targets: Targets, request: "ValidationRequest", images: "ImageSet | None"
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Judge the models on every device, write and show the records; return the verdict on all, and the records."""
    from edgedistill_deploy.remote.tasks import validate_job, write_prepared

    console = recorder.console
    devices = targets.find_devices()
    with tempfile.TemporaryDirectory() as scratch:
        prepared = None if images is None else Path(scratch) / "reference.npz"
        if images is not None and prepared is not None:
            for note in write_prepared(bundle, images, prepared):
                console.say(f"note: {note}")
        job = validate_job(
            bundle,
            request.limits,
            devices,
            targets.choice,
            precisions=request.precisions,
            threads=request.threads,
            limit_s=request.limit_s,
            reference=prepared,
            keep=targets.keep,
            wait_s=targets.wait_s,
        )
        outcomes = _run_job(devices, job, console)
    for outcome in outcomes:
        recorder.keep(functools.partial(_write_parities, bundle, outcome.result, recorder.folder))
    verdict = _emit("validate", outcomes, _parity_verdict, console)
    records = [record for outcome in outcomes for record in _records(outcome)]
    columns = ["images", "teacher", "accuracy", "drop, points", "interval", "agreement", "verdict"]
    _show_table("Parity with the teacher on the devices", columns, outcomes, _parity_row, console)
    for record in records:
        for reason in record["reasons"]:
            console.result(f"{record['device']}, {label_of(record['precision'])}: {reason}")
    return verdict, records


def _find_typed(context: typer.Context, name: str) -> str | None:
    source = context.get_parameter_source(name)
    typed = source is not None and source.name != "DEFAULT"
    return str(context.params[name]) if typed else None


def _run_job(devices: "Sequence[Device]", job: "RemoteJob", console: Console) -> "tuple[DeviceOutcome, ...]":
    from edgedistill_deploy.remote.jobs import run_on_devices

    outcomes = run_on_devices(devices, job, lambda device: _make_progress(device, console))
    for outcome in outcomes:
        if outcome.error is not None:
            typer.echo(printable(f"error: {outcome.error}", keep="\n\t"), err=True)
        else:
            sent = f"{outcome.sent_bytes / 1e6:.1f} MB sent in {outcome.sent_files} files"
            console.say(f"{outcome.device.name}: done in {outcome.seconds:.0f} s, {sent}")
    return outcomes


def _make_progress(device: "Device", console: Console) -> "Progress":
    """Return a progress that prints each new step of a device at once, and its share every few seconds."""
    step, spoken = "", 0.0

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal step, spoken
        now = time.monotonic()
        if note == step and now - spoken < PLAIN_INTERVAL_S:
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


def _write_parities(bundle: Bundle, result: Mapping[str, Any] | None, folder: Path) -> None:
    from edgedistill_deploy.parity.answers import write_answers
    from edgedistill_deploy.parity.chain import write_chain
    from edgedistill_deploy.parity.check import write_parity
    from edgedistill_deploy.records.answers import AnswersReport

    if result is None:
        return
    for record in result["records"]:
        write_parity(bundle, record, folder)
    for record in result.get("answers", ()):
        write_answers(bundle, AnswersReport.from_json(record), folder)
    if result["chain"] is not None and len(result["records"]) > 1:
        write_chain(bundle, result["chain"], folder)


def _parity_verdict(result: Mapping[str, Any]) -> Verdict:
    counted = judged_precisions(record["precision"] for record in result["records"])
    return worst_verdict(each["verdict"] for each in result["records"] if each["precision"] in counted)


def _show_table(
    title: str,
    columns: Sequence[str],
    outcomes: "Sequence[DeviceOutcome]",
    row_of: Callable[[Mapping[str, Any]], list[str]],
    console: Console,
) -> None:
    """Print a row for each record, and one for each device that failed."""
    rows: list[list[str]] = []
    for outcome in outcomes:
        rows.extend(row_of(record) for record in _records(outcome))
        if outcome.result is None:
            rows.append([outcome.device.name, "failed", *[words.MISSING] * (len(columns) + 1)])
    console.table(title, ["device", "model", "runtime", *columns], rows)


def _latency_row(record: Mapping[str, Any]) -> list[str]:
    return [
        record["device"]["name"],
        label_of(record["precision"]),
        f"{record['runtime']} {record['provider']}",
        f"{record['batch_size']}, {record['threads']}",
        *(words.milliseconds(record[f"{name}_ms"]) for name in ("p50", "p90", "p99")),
        words.quantity(record["throughput_per_s"]),
        words.size(record["peak_memory_bytes"]),
        ", ".join(record["flags"]) or "none",
    ]


def _parity_row(record: Mapping[str, Any]) -> list[str]:
    accuracy = record["accuracy"]
    drop = accuracy["drop"]
    return [
        record["device"],
        label_of(record["precision"]),
        f"{record['runtime']} {record['provider']}",
        str(record["sample_count"]),
        words.percent(accuracy["teacher"]),
        words.percent(accuracy["candidate"]),
        words.MISSING if drop is None else words.bare_points(drop),
        words.MISSING if drop is None else words.points_interval(tuple(accuracy["interval"])),
        words.percent(record["agreement"]),
        record["verdict"],
    ]
