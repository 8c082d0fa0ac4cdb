"""`plan`: which students are worth distilling for a device, timed before any is trained."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedistill_cli import options

if TYPE_CHECKING:
    from edgedistill_cli.studies.planning import PlanTask
    from edgedistill_deploy.remote.inventory import Device

OptionalRun = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]", help="A run folder, whose data, teacher and classes are taken.", show_default=False
    ),
]
OneDevice = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="A device of devices.toml or ssh://user@host[:port]; this machine by default.",
    ),
]
NeededBudget = Annotated[
    float, typer.Option("--budget-ms", metavar="X", help="What an inference may take.", show_default=False)
]
Students = Annotated[
    str | None,
    typer.Option(
        "--students",
        metavar="A,B@WIDTH",
        help="Students to try, such as timm:resnet10t@0.25,plain:16-32-64-128; a list for the image size by default.",
    ),
]
Precisions = Annotated[
    str, typer.Option("--precision", metavar="fp32,int8", help="What to time; int8 takes a few images.")
]
InspectionFile = Annotated[
    Path | None,
    typer.Option(
        "--inspection", metavar="FILE", help="The inspection.json to compare widths with; made if cheap."
    ),
]
NoInspect = Annotated[bool, typer.Option("--no-inspect", help="Do not ask which widths the teacher needs.")]
PlanOut = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Keep plan.json and the students; a plan broken off goes on from there."
    ),
]
Runtime = Annotated[
    str | None,
    typer.Option("--runtime", metavar="NAME", help="What runs the models; the device's own by default."),
]


def plan(
    budget_ms: NeededBudget,
    run: OptionalRun = None,
    device: OneDevice = None,
    percentile: options.Percentile = 99.0,
    config: options.Config = None,
    data: options.Data = None,
    teacher: options.TeacherName = None,
    teacher_weights: options.TeacherWeights = None,
    teacher_classes: options.TeacherClasses = None,
    classes: options.Classes = None,
    subtask: options.SubtaskName = None,
    image_size: options.ImageSize = None,
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Time untrained students on a device, and name those worth distilling: within the budget, and no faster one as large."""
    given = dict(locals())
    from edgedistill_cli.exit_codes import gate_code
    from edgedistill_cli.studies.planning import plan_record, plan_rows, show_plan
    from edgedistill_deploy.files.writing import write_json

    with ExitStack() as stack:
        folder = out if out is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task = _task(given, folder)
        candidates, wanted, note = _candidates(task, given)
        rows = plan_rows(task, candidates, wanted)
        record = plan_record(task, rows, note)
        if out is not None:
            write_json(out / "plan.json", record)
    task.console.emit(record)
    show_plan(task, rows, note)
    raise typer.Exit(gate_code(record["verdict"]))


def _task(given: dict[str, Any], folder: Path) -> "PlanTask":
    from edgedistill_cli.bundles.profiling import latency_config, one_or_several
    from edgedistill_cli.runs.folder import Run
    from edgedistill_cli.runs.inputs import load_inputs
    from edgedistill_cli.studies.planning import PlanTask
    from edgedistill_deploy.latency.budget import Budget
    from edgedistill_deploy.profiling.request import ProfileRequest

    device = _device(given["device"])
    own = "onnxruntime" if device is None else device.runtime
    request = ProfileRequest(
        runtimes=(given["runtime"] or own,),
        precisions=one_or_several(None, given["precision"], "--precision"),
        provider=given["provider"],
        threads=given["threads"],
        latency=latency_config(2.0 if given["duration"] is None else given["duration"], given["warmup"]),
    )
    budget = Budget(budget_ms=given["budget_ms"], percentile=given["percentile"])
    console = options.console_of(given["as_json"], given["quiet"], given["verbose"])
    settings = _settings(given)
    return PlanTask(
        inputs=load_inputs(Run(folder=Path(), settings=settings, console=console)),
        device=device,
        budget=budget,
        request=request,
        folder=folder,
        console=console,
    )


def _device(name: str | None) -> "Device | None":
    from edgedistill_deploy.remote.inventory import find_device

    return None if name in (None, "this machine") else find_device(str(name))


def _settings(given: dict[str, Any]) -> Any:
    from edgedistill_cli.settings import read_settings
    from edgedistill_deploy.errors import UsageError

    run, config = given["run"], given["config"]
    if run is not None and config is not None:
        raise UsageError(
            "Both a run folder and --config were given; a run has settings of its own, so give one of them."
        )
    if run is not None and not (run / "settings.toml").is_file():
        raise UsageError(
            f"{run} is not a run folder (it has no settings.toml); give one that `edgedistill build` made, or --data, --teacher and"
            " --classes."
        )
    names = ("data", "teacher", "teacher_weights", "teacher_classes", "classes", "subtask", "image_size")
    flags = options.training_flags({name: given[name] for name in names})
    file = run / "settings.toml" if run is not None else config
    return read_settings(file, flags, defaults={"student.name": ""})


def _candidates(task: "PlanTask", given: dict[str, Any]) -> tuple[Any, Any, str | None]:
    """Return the students, the widths to compare them with, and where these are from."""
    from edgedistill.planning.candidates import default_candidates, parse_candidates
    from edgedistill_cli.studies.planning import find_wanted, without_repeats

    size = task.inputs.teacher.preprocess.size
    named = given["students"]
    candidates = default_candidates(size) if named is None else parse_candidates(named.split(","))
    if given["no_inspect"]:
        return candidates, None, None
    file = given["inspection"]
    beside = None if given["run"] is None else given["run"] / "inspect" / "inspection.json"
    if file is None and beside is not None and beside.is_file():
        file = beside
    wanted, note = find_wanted(task, file)
    extra = wanted.student if wanted is not None and named is None else None
    return without_repeats(candidates, extra), wanted, note
