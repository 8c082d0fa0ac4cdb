"""`build` and `distill`: from flags and settings to a run folder."""

from collections.abc import Callable
from pathlib import Path

import typer

from edgedistill_cli import options


def training_command(stages: tuple[str, ...]) -> Callable[..., None]:
    """Make the command that runs these stages; `build` runs all of them, `distill` the first."""

    def command(
        out: options.Out = Path("edgedistill-run"),
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
        lambda_layer: options.LambdaLayer = None,
        preset: options.Preset = None,
        pairs: options.Pairs = None,
        teacher_cache: options.TeacherCache = None,
        mixed_precision: options.MixedPrecision = None,
        ema: options.Ema = None,
        early_stopping: options.EarlyStopping = None,
        augment: options.Augment = None,
        seed: options.Seed = None,
        workers: options.Workers = None,
        compute: options.Compute = None,
        reject: options.Reject = None,
        max_drop: options.MaxDrop = None,
        confidence: options.Confidence = None,
        restart: options.Restart = False,
        dry_run: bool = typer.Option(False, "--dry-run", help="Print the plan and stop."),
        as_json: options.Json = False,
        quiet: options.Quiet = False,
        verbose: options.Verbose = False,
        debug: options.Debug = False,
    ) -> None:
        given = dict(locals())
        from edgedistill_cli.runs.building import build, print_plan
        from edgedistill_cli.settings import read_settings

        console = options.console_of(as_json, quiet, verbose)
        settings = read_settings(config, options.training_flags(given), options.preset_settings(preset))
        if dry_run:
            print_plan(out, settings, stages, console)
        else:
            build(out, settings, stages, console, restart=restart)

    return command
