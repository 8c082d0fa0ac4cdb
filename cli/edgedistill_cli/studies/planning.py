"""Export, time and judge the candidates of a plan, here or on a device over SSH, and print what comes of it."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_deploy.bundle.folder import Bundle, open_bundle
from edgedistill_deploy.errors import DataError, EdgeDistillError
from edgedistill_deploy.files.writing import write_json
from edgedistill_deploy.version import __version__

if TYPE_CHECKING:
    from edgedistill.inspection.records import Inspection
    from edgedistill.planning.candidates import Candidate
    from edgedistill.planning.verdicts import PlanRow, Wanted
    from edgedistill_cli.runs.inputs import Inputs
    from edgedistill_deploy.latency.budget import Budget
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.remote.inventory import Device

# What an inspection may cost to be made on the way: multiply-adds in all, about a minute of a processor.
_CHEAP = 1e12
INSPECTED, INSPECTED_FOR = 200, 600  # validation and training images
_MEASURED = "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTask:
    """What is planned: for which teacher and classes, on which device, against which budget, timed how."""

    inputs: "Inputs"
    device: "Device | None"
    budget: "Budget"
    request: "ProfileRequest"
    folder: Path
    console: Console


def plan_rows(
    task: PlanTask, candidates: "Sequence[Candidate]", wanted: "Wanted | None"
) -> "tuple[PlanRow, ...]":
    """Measure every candidate once and judge them all; one that fails is a row that says why."""
    from edgedistill.planning.verdicts import judged_rows

    rows: list[PlanRow] = []
    for place, candidate in enumerate(candidates):
        task.console.say(f"plan: {candidate} ({place + 1} of {len(candidates)})")
        rows += _rows_of(task, candidate, wanted)
        if task.device is not None and all(row.error is not None for row in rows):
            # The device, not the student, is most likely at fault.
            raise EdgeDistillError(f"{task.device.name}: {rows[0].error}")
    return judged_rows(rows)


def _rows_of(task: PlanTask, candidate: "Candidate", wanted: "Wanted | None") -> "list[PlanRow]":
    from edgedistill.planning.verdicts import PlanRow, layer_widths, plan_row, with_widths

    try:
        bundle, profile = _measured(task, candidate)
        cost = bundle.manifest["student"]
        rows = [plan_row(candidate, record, cost, task.budget) for record in profile["records"]]
        if wanted is None:
            return rows
        teacher = task.inputs.teacher
        student = candidate.build(len(task.inputs.subtask), teacher.preprocess.size)
        widths = layer_widths(teacher, student, wanted)
        return [with_widths(row, widths) for row in rows]
    except EdgeDistillError as error:
        task.console.say(f"plan: {candidate} is left out: {error}")
        precision = (task.request.precisions or ("fp32",))[0]
        return [PlanRow(student=candidate.name, width=candidate.width, precision=precision, error=str(error))]


def _measured(task: PlanTask, candidate: "Candidate") -> tuple[Bundle, Mapping[str, Any]]:
    """Return the candidate's bundle and its latencies, as an earlier plan left them in the folder or made now."""
    key = _key(task, candidate)
    folder = task.folder / "students" / str(candidate).replace(":", "-").replace("/", "+").replace("@", "-x")
    kept = _kept(folder, key)
    if kept is not None:
        task.console.detail(f"plan: {candidate} was measured before")
        return open_bundle(folder, verify=False), kept
    shutil.rmtree(folder, ignore_errors=True)
    bundle = _exported(task, candidate, folder)
    profile = _profile(task, bundle)
    write_json(folder / _MEASURED, {"key": key, "profile": profile})
    return bundle, profile


def _key(task: PlanTask, candidate: "Candidate") -> str:
    """Return what a measurement hangs on: with the same key it need not be made again."""
    teacher = task.inputs.teacher
    parts = [
        str(candidate),
        __version__,
        len(task.inputs.subtask),
        teacher.preprocess.digest,
        [*teacher.mean, *teacher.std],
        task.request.to_json(),
        None if task.device is None else task.device.name,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _kept(folder: Path, key: str) -> Mapping[str, Any] | None:
    try:
        found = json.loads((folder / _MEASURED).read_text(encoding="utf-8"))
        profile: Mapping[str, Any] = found["profile"]
        return profile if found["key"] == key else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _exported(task: PlanTask, candidate: "Candidate", folder: Path) -> Bundle:
    from edgedistill.planning.candidates import write_candidate

    bundle, _ = write_candidate(candidate, task.inputs.teacher, task.inputs.subtask, folder)
    if "int8" in (task.request.precisions or ()):
        bundle = _calibrated(task, bundle)
    return bundle


def _calibrated(task: PlanTask, bundle: Bundle) -> Bundle:
    """Bring it to INT8 on few images: its time hangs on the graph, and its answers mean nothing."""
    from edgedistill_calibration import calibrate
    from edgedistill_calibration.config import CalibrationConfig

    few = 4 * len(task.inputs.subtask)
    config = CalibrationConfig(
        images=few, held_out=few, method="minmax", max_drop=1.0, fp16=False, ledger_nodes=0
    )
    return calibrate(bundle, task.inputs.images.train, config)


def _profile(task: PlanTask, bundle: Bundle) -> Mapping[str, Any]:
    if task.device is None:
        from edgedistill_deploy.profiling.run import run_profile

        return run_profile(bundle.path, task.request)
    return _profile_there(bundle, task.request, task.device)


def _profile_there(bundle: Bundle, request: "ProfileRequest", device: "Device") -> Mapping[str, Any]:
    from edgedistill_deploy.remote.jobs import run_on_devices
    from edgedistill_deploy.remote.tasks import Chosen, profile_job

    # The request has the runtime; the provider is the device's own, unless another was asked for.
    chosen = Chosen(
        runtime=request.runtimes[0], provider=None if request.provider == "cpu" else request.provider
    )
    (outcome,) = run_on_devices([device], profile_job(bundle, request, [device], chosen, keep=True))
    if outcome.result is None:
        raise EdgeDistillError(f"{outcome.error}")
    return outcome.result


def find_wanted(task: PlanTask, file: Path | None) -> tuple["Wanted | None", str | None]:
    """Return what an inspection suggests, and where it is from or why there is none.

    Args:
        task: with teacher and images.
        file: an inspection's record; without one it is made, where that is cheap.

    Raises DataError when the file is not an inspection.
    """
    from edgedistill.planning.verdicts import Wanted

    if file is not None:
        try:
            return Wanted.of(
                json.loads(file.read_text(encoding="utf-8"))
            ), f"The suggested widths are those of {file}."
        except ValueError as error:
            raise DataError(
                f"{file} is no JSON; give the inspection.json that `edgedistill inspect` wrote."
            ) from error
    cost = _inspection_cost(task)
    if cost > _CHEAP:
        return None, (
            "No suggested widths: inspecting this teacher takes longer than the plan; run `edgedistill inspect --out DIR` and give"
            " --inspection DIR/inspection.json."
        )
    try:
        found = _inspect(task)
    except EdgeDistillError as error:
        return None, f"No suggested widths: {error}"
    return Wanted.of(found.to_json()), (
        f"The suggested widths are from {found.training_count} training and {found.validation_count} validation images; `edgedistill"
        " inspect` takes more."
    )


def _inspection_cost(task: PlanTask) -> float:
    from edgedistill.networks.cost import count_cost

    teacher = task.inputs.teacher
    each = count_cost(teacher.model, teacher.preprocess.size).multiply_adds
    return float(each) * (3 * INSPECTED_FOR + 50 * INSPECTED)


def _inspect(task: PlanTask) -> "Inspection":
    from edgedistill.inspection.config import InspectConfig
    from edgedistill.inspection.inspecting import inspect_subspaces

    given = task.inputs
    config = InspectConfig(methods=("prca",), images=INSPECTED, training_images=INSPECTED_FOR)
    with task.console.progress("inspect") as report:
        return inspect_subspaces(given.teacher, given.subtask, given.images, config, progress=report)


def plan_record(task: PlanTask, rows: "Sequence[PlanRow]", note: str | None) -> dict[str, Any]:
    """Return the plan's JSON document."""
    from edgedistill.planning.verdicts import plan_verdict

    return {
        "kind": "student-plan",
        "schema": 1,
        "device": "this machine" if task.device is None else task.device.name,
        "teacher": task.inputs.teacher.name,
        "subtask": task.inputs.subtask.to_json(),
        "image_size": list(task.inputs.teacher.preprocess.size),
        "budget_ms": task.budget.budget_ms,
        "percentile": task.budget.percentile,
        "runtimes": list(task.request.runtimes),
        "provider": task.request.provider,
        "threads": task.request.threads,
        "verdict": plan_verdict(rows),
        "proposed": [row.label for row in rows if row.proposed],
        "widths_from": note,
        "rows": [row.to_json() for row in rows],
    }


def show_plan(task: PlanTask, rows: "Sequence[PlanRow]", note: str | None) -> None:
    """Print the table, largest student first, and what it comes to."""
    from edgedistill_deploy import wording as words

    console, budget = task.console, task.budget
    said = {"pass": "yes", "fail": "no", "inconclusive": "undecided", None: words.MISSING}
    columns: dict[str, Callable[[PlanRow], str]] = {
        "student": lambda row: row.label.rpartition(" ")[0],
        "precision": lambda row: row.precision,
        "p50": lambda row: words.milliseconds(row.p50_ms),
        f"p{budget.percentile:g}": lambda row: words.milliseconds(row.value_ms),
        "interval": lambda row: " to ".join(words.milliseconds(end) for end in row.interval),
        "parameters": lambda row: words.quantity(row.parameters),
        "multiply-adds": lambda row: words.quantity(row.multiply_adds),
        "in budget": lambda row: said[row.within_budget],
    }
    if any(row.widths is not None for row in rows):
        columns["wide enough"] = _enough
    columns["worth distilling"] = _worth
    name = "this machine" if task.device is None else task.device.name
    console.table(
        f"Untrained students on {name}: p{budget.percentile:g} against {budget.budget_ms:g} ms",
        list(columns),
        [[cell(row) for cell in columns.values()] for row in rows],
    )
    if any(row.dominated_by is not None and row.within_budget == "pass" for row in rows):
        console.result("See another: that one is surely faster, with no fewer parameters and multiply-adds.")
    if note is not None:
        console.result(note)
    _show_outcome(rows, budget, console)


def _enough(row: "PlanRow") -> str:
    if row.widths is None:
        return "–"
    short = [each for each in row.widths if each.width < each.suggested]
    if not short:
        return "yes"
    worst = min(short, key=lambda each: each.width / each.suggested)
    return f"{worst.student}: {worst.width} of {worst.suggested}"


def _worth(row: "PlanRow") -> str:
    if row.error is not None:
        return "failed"
    if row.dominated_by is not None and row.within_budget == "pass":
        return f"no, see {row.dominated_by}"
    return "yes" if row.proposed else "no"


def _show_outcome(rows: "Sequence[PlanRow]", budget: "Budget", console: Console) -> None:
    from edgedistill.planning.verdicts import plan_verdict

    verdict, proposed = plan_verdict(rows), [row for row in rows if row.proposed]
    for row in rows:
        if row.error is not None:
            console.result(f"{row.label} failed: {row.error}")
    if verdict == "fail":
        fastest = min((row for row in rows if row.value_ms is not None), key=lambda row: row.value_ms or 0.0)
        console.result(
            f"None fits {budget.budget_ms:g} ms; the fastest is {fastest.label} with {fastest.value_ms:.3g} ms. Try narrower ones with"
            " --students NAME@WIDTH, or smaller images with --image-size."
        )
    elif verdict == "inconclusive":
        more = [row.runs_to_decide for row in rows if row.runs_to_decide is not None]
        advice = (
            f"; about {min(more)} more runs would decide one, so give a longer --duration" if more else ""
        )
        console.result(f"Whether one fits {budget.budget_ms:g} ms is undecided{advice}.")
    else:
        names = [_flags(row) for row in proposed]
        console.result(f"Worth distilling, the largest first: {'; '.join(names)}.")
    doubtful = sorted({flag for row in rows for flag in row.flags})
    if doubtful:
        console.result(
            f"Times are doubtful ({', '.join(doubtful)}); see `edgedistill profile` for what that means."
        )


def _flags(row: "PlanRow") -> str:
    width = "" if row.width == 1 else f" --student-width {row.width:g}"
    return f"--student {row.student}{width} ({row.precision})"


def without_repeats(candidates: "Sequence[Candidate]", extra: str | None) -> "tuple[Candidate, ...]":
    """Add the student that an inspection suggests, unless it is there."""
    from edgedistill.planning.candidates import Candidate

    found = list(candidates)
    if extra is not None:
        found.append(Candidate.parse(extra))
    return tuple(dict.fromkeys(found))
