"""`plan`: time untrained students on a device, and choose those worth distilling."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Without, flag, settings_of

if TYPE_CHECKING:
    from edgedistill_deploy.remote.inventory import Device

OptionalRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]", help="A run folder, whose data, teacher and classes are taken.", show_default=False
    ),
]
OneDevice = Annotated[
    str | None, flag("--device", "NAME", "A device of devices.toml or ssh://user@host[:port]; this machine by default.")
]
NeededBudget = Annotated[float, flag("--budget-ms", "X", "What an inference may take.", show_default=False)]
Students = Annotated[
    str | None,
    flag(
        "--students",
        "A,B@WIDTH",
        "Students to try, such as timm:resnet10t@0.25,plain:16-32-64-128; a list for the image size by default.",
    ),
]
Precisions = Annotated[str, flag("--precision", "fp32,int8", "What to time; int8 takes a few images.")]
InspectionFile = Annotated[
    Path | None, flag("--inspection", "FILE", "The inspection.json to compare widths with; made if cheap.")
]
NoInspect = Annotated[bool, typer.Option("--no-inspect", help="Do not ask which widths the teacher needs.")]
PlanOut = Annotated[
    Path | None, flag("--out", "DIR", "Keep plan.json and the students; a plan broken off goes on from there.")
]
Runtime = Annotated[str | None, flag("--runtime", "NAME", "What runs the models; the device's own by default.")]


def plan(
    budget_ms: NeededBudget,
    *,
    run: OptionalRun = None,
    device: OneDevice = None,
    percentile: options.Percentile = 99.0,
    config: options.Config = None,
    flags: Annotated[options.TaskFlags, Without("student", "student_width", "student_channels")],
    students: Students = None,
    precision: Precisions = "fp32",
    runtime: Runtime = None,
    provider: options.Provider = "cpu",
    threads: options.ProfileThreads = 1,
    duration: options.Duration = None,
    warmup: options.Warmup = None,
    inspection: InspectionFile = None,
    no_inspect: NoInspect = False,
    out: PlanOut = None,
    console: Console,
) -> None:
    """Time untrained students on a device, and name those worth distilling: within the budget, and no faster one as
    large."""
    from edgedistill_cli.bundles.profiling import latency_config, one_or_several
    from edgedistill_cli.exit_codes import gate_code
    from edgedistill_cli.runs.folder import read_run_or_file
    from edgedistill_cli.runs.preflight import Preflight, check_inputs, check_place, read_for_checks
    from edgedistill_cli.studies.planning import PlanQuestion, plan_students, show_plan
    from edgedistill_deploy.files.locks import hold_folder
    from edgedistill_deploy.files.writing import make_folder, write_json
    from edgedistill_deploy.latency.budget import Budget
    from edgedistill_deploy.profiling.request import ProfileRequest

    there = _find_device(device)
    own = "onnxruntime" if there is None else there.runtime
    request = ProfileRequest(
        runtimes=(runtime or own,),
        precisions=one_or_several(None, precision, "--precision"),
        providers=(provider,),
        threads=threads,
        latency=latency_config(2.0 if duration is None else duration, warmup),
    )
    question = PlanQuestion(
        device=there,
        budget=Budget(budget_ms=budget_ms, percentile=percentile),
        request=request,
        students=students,
        inspection=None if no_inspect else inspection or _inspection_of(run),
        may_inspect=not no_inspect,
    )
    found = Preflight()
    settings = read_for_checks(lambda: read_run_or_file(run, config, settings_of(flags)), found)
    check_place(out, found)
    check_inputs(settings, console, found)
    found.require()
    with ExitStack() as stack:
        if out is not None:
            make_folder(out)
            stack.enter_context(hold_folder(out, "edgedistill plan", note=console.say))
        folder = out if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        planned = plan_students(question, settings, folder, console)
        console.emit(planned.record)
        show_plan(planned, console)
        if out is not None:
            write_json(out / "plan.json", planned.record, inside=out)
    raise typer.Exit(gate_code(planned.record["verdict"]))


def _find_device(name: str | None) -> "Device | None":
    from edgedistill_deploy.remote.inventory import find_device

    return None if name in (None, "this machine") else find_device(str(name))


def _inspection_of(run: Path | None) -> Path | None:
    file = None if run is None else run / "inspect" / "inspection.json"
    return file if file is not None and file.is_file() else None
