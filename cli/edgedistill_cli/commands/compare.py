"""`compare`: SubDistill and other training methods, with the same budget and several seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Setting, Without, flag, settings_of

MethodNames = Annotated[str | None, flag("--methods", "A,B,C", "Methods to compare; all that there are by default.")]
Seeds = Annotated[int, flag("--seeds", "N", "Runs of each method; 3 by default.", min=1)]
TrainSizes = Annotated[str | None, flag("--train-sizes", "N,N", "Numbers of training images; all by default.")]
Lambdas = Annotated[
    str | None, flag("--lambdas", "X,X", "Weights of the layer term that each method tries; 0.1,1,10,100 by default.")
]
TuneSizes = Annotated[str, flag("--tune-sizes", "each|first", "Choose the weight at each size, or the smallest.")]
TuneSeeds = Annotated[int, flag("--tune-seeds", "N", "Seeds that choose the weight; 1 by default.", min=1)]
ValidationImages = Annotated[int | None, flag("--validation-images", "N", "Validation images to use; all by default.")]
Jobs = Annotated[int, flag("--jobs", "N", "Runs at a time, a process each.", min=1)]
TrainingThreads = Annotated[int, flag("--threads", "N", "CPU threads of each process.", min=1)]
OutFolder = Annotated[Path, flag("--out", "DIR", "Where results go; a second run goes on there.")]
Explain = Annotated[bool, typer.Option("--explain", help="Compare what the answers rest on with the teacher, too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many runs are due, and stop.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFlags:
    """One weight of the layer term instead of several."""

    lambda_layer: Annotated[
        str | None,
        flag("--lambda-layer", "X|auto", "One weight for all, as --lambdas X; auto chooses, the default."),
        Setting("distill.lambda_layer", options.number_or_text),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonFlags:
    """How the reasons of students and teacher are looked for."""

    method: Annotated[
        str | None,
        flag("--explain-method", "NAME", "For --explain: integrated-gradients, lrp, attention, or auto, the default."),
    ] = None
    images: Annotated[
        int | None,
        flag("--explain-images", "N", "For --explain: validation images, evenly over the classes; 64 at most."),
    ] = None
    steps: Annotated[
        int | None, flag("--explain-steps", "N", "For --explain: points of integrated gradients; 32 by default.")
    ] = None


def compare(
    *,
    out: OutFolder = Path("edgedistill-compare"),
    config: options.Config = None,
    task: options.TaskFlags,
    fit: options.FitFlags,
    weight: WeightFlags,
    run: Annotated[options.RunFlags, Without(*options.GATE_FLAGS)],
    methods: MethodNames = None,
    seeds: Seeds = 3,
    train_sizes: TrainSizes = None,
    lambdas: Lambdas = None,
    tune_sizes: TuneSizes = "each",
    tune_seeds: TuneSeeds = 1,
    validation_images: ValidationImages = None,
    jobs: Jobs = 1,
    threads: TrainingThreads = 1,
    explain: Explain = False,
    reasons: ReasonFlags,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Compare SubDistill with other ways to train the same student, on the same images and with the same budget."""
    from edgedistill_cli.runs.preflight import Preflight, check_inputs, check_place, check_weights, read_for_checks
    from edgedistill_cli.settings_file import read_settings
    from edgedistill_cli.studies.comparing import (
        check_classes,
        make_plan,
        read_reasons,
        require_one_teacher,
        run_and_show,
        show_due,
    )

    asked = read_reasons(explain, options.not_none(method=reasons.method, images=reasons.images, steps=reasons.steps))
    found = Preflight()
    settings = read_for_checks(lambda: read_settings(config, settings_of(task, fit, weight, run)), found)
    check_place(out, found)
    with found.gathering():
        require_one_teacher(settings)
    check_inputs(settings, console, found)
    if not dry_run:
        check_weights(settings, found)
    found.require()
    plan = make_plan(
        settings,
        found.labels,
        methods=None if methods is None else options.split_names(methods),
        seeds=seeds,
        sizes=train_sizes,
        lambdas=lambdas if weight.lambda_layer in (None, "auto") else weight.lambda_layer,
        tune_sizes=tune_sizes,
        tune_seeds=tune_seeds,
        validation_images=validation_images,
        has_labels=not found.lacks_labels,
        explain=asked,
    )
    if found.lacks_labels and methods is None:
        console.say("note: the method 'labels' is left out, because no training image has a label")
    if found.labels is None:
        check_classes(settings)
    if dry_run:
        show_due(plan, out, console, found)
    else:
        run_and_show(plan, out, console, jobs=jobs, threads=threads)
