"""`build` and `distill`: from flags and settings to a run folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import STAGES, options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import settings_of

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check all that is quick to check, print the plan and stop.")]


def _training_command(stages: tuple[str, ...], text: str) -> Callable[..., None]:
    def command(
        *,
        out: options.Out = Path("edgedistill-run"),
        config: options.Config = None,
        task: options.TaskFlags,
        fit: options.FitFlags,
        method: options.MethodFlags,
        run: options.RunFlags,
        restart: options.Restart = False,
        keep_going: options.KeepGoing = False,
        rivals: options.Rivals = False,
        dry_run: DryRun = False,
        console: Console,
    ) -> None:
        from edgedistill_cli.runs import assistance
        from edgedistill_cli.runs.building import build, print_plan
        from edgedistill_cli.runs.folder import Run
        from edgedistill_cli.runs.preflight import Preflight, check_run, read_for_checks
        from edgedistill_cli.runs.rivals import refuse_helpers
        from edgedistill_cli.settings_file import preset_settings, read_settings

        found, flags = Preflight(), settings_of(task, fit, method, run)
        settings = read_for_checks(lambda: read_settings(config, flags, preset_settings(method.preset)), found)
        planned = Run(folder=out, settings=settings, console=console)
        if rivals:
            with found.gathering():
                refuse_helpers()
        if settings.student.assistant is not None:
            with found.gathering():
                assistance.refuse_helpers()
        check_run(planned, stages, found, restart=restart, asks_network=not dry_run, rivals=rivals)
        if dry_run:
            print_plan(planned, stages, found, rivals=rivals)
        else:
            found.require()
            build(out, settings, stages, console, restart=restart, keep_going=keep_going, rivals=rivals)

    command.__doc__ = text
    return command


build = _training_command(
    STAGES, "Distil, export, calibrate, validate, profile, report: one command, one folder, resumable."
)
distill = _training_command(STAGES[:1], "Train the student: the first stage of build, alone.")
