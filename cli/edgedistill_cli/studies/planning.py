"""Time the candidates of a plan and print the result."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedistill_cli.console import Console
from edgedistill_cli.runs.folder import Run
from edgedistill_cli.runs.inputs import Inputs, load_inputs, say_first_teacher
from edgedistill_deploy import wording as words

if TYPE_CHECKING:
    from edgedistill.planning.candidates import Candidate
    from edgedistill.planning.measuring import PlanTask
    from edgedistill.planning.verdicts import PlanRow
    from edgedistill.planning.widths import SuggestedWidths
    from edgedistill_cli.settings import RunSettings
    from edgedistill_deploy.latency.budget import Budget
    from edgedistill_deploy.profiling.request import ProfileRequest
    from edgedistill_deploy.remote.inventory import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuestion:
    """The question that a plan answers.

    Attributes:
        device: None for this machine.
        students: A,B@WIDTH; None for those that suit the image size.
        inspection: the file of the record whose widths the students are compared with.
        may_inspect: without that record the teacher may be inspected, if that is cheap.
    """

    device: "Device | None"
    budget: "Budget"
    request: "ProfileRequest"
    students: str | None = None
    inspection: Path | None = None
    may_inspect: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The result of a plan; `widths_from` says where the suggested widths are from, or why there are none."""

    task: "PlanTask"
    rows: "tuple[PlanRow, ...]"
    widths_from: str | None
    record: dict[str, Any]


def plan_students(question: PlanQuestion, settings: "RunSettings", folder: Path, console: Console) -> Plan:
    """Time the students for the teacher and classes of the settings; their bundles go into the folder."""
    from edgedistill.planning.candidates import add_candidate, default_candidates, parse_candidates
    from edgedistill.planning.measuring import PlanTask, plan_record
    from edgedistill_calibration import CalibrationConfig, calibrate

    say_first_teacher(settings, console)
    inputs = load_inputs(Run(folder=Path(), settings=settings, console=console))
    few = CalibrationConfig.for_timing(len(inputs.subtask))
    task = PlanTask(
        teacher=inputs.teacher,
        subtask=inputs.subtask,
        device=question.device,
        budget=question.budget,
        request=question.request,
        folder=folder,
        quantise=lambda bundle: calibrate(bundle, inputs.images.train, few),
    )
    if question.students is None:
        candidates = default_candidates(inputs.teacher.preprocess.size)
    else:
        candidates = _with_filled(parse_candidates(question.students.split(",")), inputs, console)
    suggested, widths_from = _find_widths(question, inputs, console)
    if suggested is not None and question.students is None:
        candidates = add_candidate(candidates, suggested.student)
    rows = _time_candidates(task, candidates, suggested, console)
    return Plan(task=task, rows=rows, widths_from=widths_from, record=plan_record(task, rows, widths_from))


def _with_filled(candidates: "Sequence[Candidate]", inputs: Inputs, console: Console) -> "tuple[Candidate, ...]":
    """Add to each candidate the one a little wider whose channels fill the kernels, and say why."""
    from edgedistill.planning.filling import LANES, find_filled

    size, count = inputs.teacher.preprocess.size, len(inputs.subtask)
    found: dict[Candidate, None] = {}
    for each in candidates:
        found[each] = None
        wider = find_filled(each, lambda one: one.build(count, size), size)
        if wider is not None and wider not in candidates:
            found[wider] = None
            console.say(
                f"plan: {wider} is timed too: layers of {each} have channels that are no multiple of {LANES}, and "
                f"kernels compute {LANES} at once"
            )
    return tuple(found)


def _find_widths(
    question: PlanQuestion, inputs: Inputs, console: Console
) -> "tuple[SuggestedWidths | None, str | None]":
    from edgedistill.planning.widths import find_suggested_widths, read_suggested_widths

    if question.inspection is not None:
        widths = read_suggested_widths(question.inspection)
        return widths, f"The suggested widths are those of {question.inspection}."
    if not question.may_inspect:
        return None, None
    with console.progress("inspect") as report:
        return find_suggested_widths(inputs.teacher, inputs.subtask, inputs.images, report)


def _time_candidates(
    task: "PlanTask", candidates: "Sequence[Candidate]", suggested: "SuggestedWidths | None", console: Console
) -> "tuple[PlanRow, ...]":
    from edgedistill.planning.measuring import check_device, measure_candidate
    from edgedistill.planning.verdicts import judge_rows

    rows: list[PlanRow] = []
    for place, candidate in enumerate(candidates):
        console.say(f"plan: {candidate} ({place + 1} of {len(candidates)})")
        found = measure_candidate(task, candidate, suggested)
        if found.kept:
            console.detail(f"plan: {candidate} was measured before")
        for error in {row.error for row in found.rows if row.error is not None}:
            console.say(f"plan: {candidate} is left out: {error}")
        rows += found.rows
        check_device(task, rows)
    return judge_rows(rows)


def show_plan(plan: Plan, console: Console) -> None:
    """Print the table, the largest student first, and the conclusion."""
    rows, budget = plan.rows, plan.task.budget
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
        columns["wide enough"] = _width_cell
    columns["starts from"] = _start_cell
    columns["worth distilling"] = _worth_cell
    console.table(
        f"Untrained students on {plan.task.device_name}: p{budget.percentile:g} against {budget.budget_ms:g} ms",
        list(columns),
        [[cell(row) for cell in columns.values()] for row in rows],
    )
    if any(row.dominated_by is not None and row.within_budget == "pass" for row in rows):
        console.result("See another: that one is surely faster, with no fewer parameters and multiply-adds.")
    if plan.widths_from is not None:
        console.result(plan.widths_from)
    _show_outcome(rows, budget, console)


def _width_cell(row: "PlanRow") -> str:
    if row.widths is None:
        return words.MISSING
    short = [each for each in row.widths if each.width < each.suggested]
    if not short:
        return "yes"
    worst = min(short, key=lambda each: each.width / each.suggested)
    return f"{worst.student}: {worst.width} of {worst.suggested}"


def _start_cell(row: "PlanRow") -> str:
    from edgedistill.models.start import find_obstacle
    from edgedistill.models.student_names import is_shrunk

    if is_shrunk(row.student):
        return "the teacher"
    return "nothing" if find_obstacle(row.student, "auto", row.width) else "trained weights"


def _worth_cell(row: "PlanRow") -> str:
    if row.error is not None:
        return "failed"
    if row.dominated_by is not None and row.within_budget == "pass":
        return f"no, see {row.dominated_by}"
    return "yes" if row.proposed else "no"


def _show_outcome(rows: "Sequence[PlanRow]", budget: "Budget", console: Console) -> None:
    from edgedistill.planning.verdicts import plan_verdict

    verdict = plan_verdict(rows)
    for row in rows:
        if row.error is not None:
            console.result(f"{row.label} failed: {row.error}")
    if verdict == "fail":
        fastest = min((row for row in rows if row.value_ms is not None), key=lambda row: row.value_ms or 0.0)
        console.result(
            f"None fits {budget.budget_ms:g} ms; the fastest is {fastest.label} with {fastest.value_ms:.3g} ms. Try "
            "narrower ones with --students NAME@WIDTH, or smaller images with --image-size."
        )
    elif verdict == "inconclusive":
        more = [row.runs_to_decide for row in rows if row.runs_to_decide is not None]
        advice = f"; about {min(more)} more runs would decide one, so give a longer --duration" if more else ""
        console.result(f"Whether one fits {budget.budget_ms:g} ms is undecided{advice}.")
    else:
        names = "; ".join(_flags(row) for row in rows if row.proposed)
        console.result(f"Worth distilling, the largest first: {names}.")
    doubtful = sorted({flag for row in rows for flag in row.flags})
    if doubtful:
        console.result(f"Times are doubtful ({', '.join(doubtful)}); see `edgedistill profile` for what that means.")


def _flags(row: "PlanRow") -> str:
    width = "" if row.width == 1 else f" --student-width {row.width:g}"
    return f"--student {row.student}{width} ({row.precision})"
