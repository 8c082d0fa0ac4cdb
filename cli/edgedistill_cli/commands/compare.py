"""`compare`: SubDistill beside labels, logits and the layer-wise rivals, with the same budget and several seeds."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options

MethodNames = Annotated[
    str | None,
    typer.Option("--methods", metavar="A,B,C", help="Methods to compare; all that there are by default."),
]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Runs of each method; 3 by default.")]
TrainSizes = Annotated[
    str | None,
    typer.Option("--train-sizes", metavar="N,N", help="Numbers of training images; all by default."),
]
Lambdas = Annotated[
    str | None,
    typer.Option(
        "--lambdas",
        metavar="X,X",
        help="Weights of the layer term that each method tries; 0.1,1,10,100 by default.",
    ),
]
LambdaLayer = Annotated[
    str | None,
    typer.Option(
        "--lambda-layer",
        metavar="X|auto",
        help="One weight for all, as --lambdas X; auto chooses, the default.",
    ),
]
TuneSizes = Annotated[
    str,
    typer.Option(
        "--tune-sizes", metavar="each|first", help="Choose the weight at each size, or the smallest."
    ),
]
TuneSeeds = Annotated[
    int,
    typer.Option("--tune-seeds", metavar="N", min=1, help="Seeds that choose the weight; 1 by default."),
]
ValidationImages = Annotated[
    int | None,
    typer.Option("--validation-images", metavar="N", help="Validation images to use; all by default."),
]
Jobs = Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Runs at a time, a process each.")]
TrainingThreads = Annotated[
    int, typer.Option("--threads", metavar="N", min=1, help="CPU threads of each process.")
]
OutFolder = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where results go; a second run goes on there.")
]


def compare(
    out: OutFolder = Path("edgedistill-compare"),
    config: options.Config = None,
    data: options.Data = None,
    teacher: options.TeacherName = None,
    teacher_weights: options.TeacherWeights = None,
    teacher_classes: options.TeacherClasses = None,
    classes: options.Classes = None,
    subtask: options.SubtaskName = None,
    student: options.StudentName = None,
    student_width: options.StudentWidth = None,
    image_size: options.ImageSize = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    lr: options.LearningRate = None,
    lambda_layer: LambdaLayer = None,
    augment: options.Augment = None,
    seed: options.Seed = None,
    workers: options.Workers = None,
    compute: options.Compute = None,
    confidence: options.Confidence = None,
    methods: MethodNames = None,
    seeds: Seeds = 3,
    train_sizes: TrainSizes = None,
    lambdas: Lambdas = None,
    tune_sizes: TuneSizes = "each",
    tune_seeds: TuneSeeds = 1,
    validation_images: ValidationImages = None,
    jobs: Jobs = 1,
    threads: TrainingThreads = 1,
    dry_run: bool = typer.Option(False, "--dry-run", help="Say how many runs are due, and stop."),
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Compare SubDistill with other ways to train the same student, on the same images and with the same budget."""
    given = dict(locals())
    from edgedistill_cli.settings import read_settings
    from edgedistill_cli.studies.comparing import check_classes, make_plan, run_and_show, show_due

    settings = read_settings(config, options.training_flags(given))
    plan = make_plan(
        settings,
        methods=options.class_names(methods),
        seeds=seeds,
        sizes=train_sizes,
        lambdas=lambdas if lambda_layer in (None, "auto") else lambda_layer,
        tune_sizes=tune_sizes,
        tune_seeds=tune_seeds,
        validation_images=validation_images,
    )
    check_classes(settings)
    console = options.console_of(as_json, quiet, verbose)
    if dry_run:
        show_due(plan, out, console)
    else:
        run_and_show(plan, out, console, jobs=jobs, threads=threads)
