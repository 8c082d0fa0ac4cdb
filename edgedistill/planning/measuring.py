"""Exports candidates, times each once, here or on a device, and compares the times with a budget."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.models.names import shown_teacher_name
from edgedistill.models.student_names import is_shrunk
from edgedistill.models.teacher import Teacher
from edgedistill.planning.candidates import Candidate, write_candidate
from edgedistill.planning.verdicts import PlanRow, plan_row, plan_verdict, with_widths
from edgedistill.planning.widths import SuggestedWidths, find_layer_widths
from edgedistill.subtasks.subtask import Subtask
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import EdgeDistillError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.latency.budget import Budget
from edgedistill_deploy.profiling.request import ProfileRequest
from edgedistill_deploy.profiling.run import run_profile
from edgedistill_deploy.remote.inventory import Device
from edgedistill_deploy.remote.jobs import run_on_devices
from edgedistill_deploy.remote.tasks import RuntimeChoice, profile_job
from edgedistill_deploy.version import __version__

_MEASURED = "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTask:
    """A plan: for which teacher and classes, on which device, with which budget, and how to measure."""

    teacher: Teacher
    subtask: Subtask
    device: Device | None  # None is this machine
    budget: Budget
    request: ProfileRequest
    folder: Path  # for the candidates' bundles, with what was measured
    quantise: Callable[[Bundle], Bundle]  # writes the INT8 files of a bundle, if INT8 is requested

    @property
    def device_name(self) -> str:
        """The device's name for readers."""
        return "this machine" if self.device is None else self.device.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTimes:
    """A row for each precision of a candidate, and whether an earlier plan had timed it."""

    rows: tuple[PlanRow, ...]
    kept: bool = False


def measure_candidate(task: PlanTask, candidate: Candidate, suggested: SuggestedWidths | None) -> CandidateTimes:
    """Time a candidate and compare it with the budget; one that cannot be timed gives a row with the reason."""
    try:
        bundle, profile, kept = _time(task, candidate)
        cost = bundle.manifest["student"]
        rows = [plan_row(candidate, record, cost, task.budget) for record in profile["records"]]
        if suggested is not None:
            student = candidate.build(len(task.subtask), task.teacher.preprocess.size, task.teacher)
            widths = find_layer_widths(task.teacher, student, suggested)
            rows = [with_widths(row, widths) for row in rows]
        return CandidateTimes(rows=tuple(rows), kept=kept)
    except EdgeDistillError as error:
        precision = (task.request.precisions or ("fp32",))[0]
        failed = PlanRow(student=candidate.name, width=candidate.width, precision=precision, error=str(error))
        return CandidateTimes(rows=(failed,))


def check_device(task: PlanTask, rows: Sequence[PlanRow]) -> None:
    """Raise EdgeDistillError where no row was timed on a device: most likely the device has a fault."""
    if task.device is not None and all(row.error is not None for row in rows):
        raise EdgeDistillError(f"{task.device.name}: {rows[0].error}")


def _time(task: PlanTask, candidate: Candidate) -> tuple[Bundle, Mapping[str, Any], bool]:
    """Return the candidate's bundle, its latencies, and whether an earlier plan left them in the folder."""
    key = _key(task, candidate)
    folder = task.folder / "students" / str(candidate).replace(":", "-").replace("/", "+").replace("@", "-x")
    kept = _read_kept(folder, key)
    if kept is not None:
        return open_bundle(folder, verify=False), kept, True
    shutil.rmtree(folder, ignore_errors=True)
    bundle, _ = write_candidate(candidate, task.teacher, task.subtask, folder)
    if "int8" in (task.request.precisions or ()):
        bundle = task.quantise(bundle)
    profile = _profile(task, bundle)
    write_json(folder / _MEASURED, {"key": key, "profile": profile}, inside=task.folder)
    return bundle, profile, False


def _key(task: PlanTask, candidate: Candidate) -> str:
    """Return a hash of all that a measurement depends on."""
    parts = [
        str(candidate),
        __version__,
        len(task.subtask),
        task.teacher.preprocess.digest,
        [*task.teacher.mean, *task.teacher.std],
        task.request.to_json(),
        None if task.device is None else task.device.name,
        *([task.teacher.name, task.teacher.weights_sha256] if is_shrunk(candidate.name) else []),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read_kept(folder: Path, key: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads((folder / _MEASURED).read_text(encoding="utf-8"))
        profile: Mapping[str, Any] = found["profile"]
        return profile if found["key"] == key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _profile(task: PlanTask, bundle: Bundle) -> Mapping[str, Any]:
    request, device = task.request, task.device
    if device is None:
        return run_profile(bundle.path, request)
    # The request names the runtime; the provider is the device's own, unless another was requested.
    provider = None if request.providers == ("cpu",) else request.providers[0]
    chosen = RuntimeChoice(runtime=request.runtimes[0], provider=provider)
    (outcome,) = run_on_devices([device], profile_job(bundle, request, [device], chosen, keep=True))
    if outcome.result is None:
        raise EdgeDistillError(f"{outcome.error}")
    return outcome.result


def plan_record(task: PlanTask, rows: Sequence[PlanRow], widths_from: str | None) -> dict[str, Any]:
    """Return the plan's JSON document; `widths_from` is the source of the suggested widths, or why there are none."""
    return {
        "kind": "student-plan",
        "schema": 1,
        "device": task.device_name,
        "teacher": shown_teacher_name(task.teacher.name),
        "subtask": task.subtask.to_json(),
        "image_size": list(task.teacher.preprocess.size),
        "budget_ms": task.budget.budget_ms,
        "percentile": task.budget.percentile,
        "runtimes": list(task.request.runtimes),
        "provider": task.request.providers[0],
        "threads": task.request.threads,
        "verdict": plan_verdict(rows),
        "proposed": [row.label for row in rows if row.proposed],
        "widths_from": widths_from,
        "rows": [row.to_json() for row in rows],
    }
