"""Run one stage again on an existing run folder, for `export` and `calibrate`."""

from pathlib import Path
from typing import Any

from edgedistill_cli import STAGES
from edgedistill_cli.console import Console
from edgedistill_cli.runs.building import advance, build_record, command_of
from edgedistill_cli.runs.folder import Run, at_work, require_run, resume_run
from edgedistill_deploy.errors import EdgeDistillError


def run_stage(folder: Path, stage: str, flags: dict[str, Any], console: Console) -> None:
    """Run the stage anew, with `flags` ({"table.key": value}) laid over the run's settings.

    Raises:
        EdgeDistillError: a stage before it is not complete.
    """
    require_run(folder)
    with at_work(folder, stage, console):
        _run_alone(resume_run(folder, flags, console), stage)
    console.result(f"{stage}: done, in {folder}")


def _run_alone(run: Run, stage: str) -> None:
    missing = tuple(each for each in run.stages_before(stage) if not run.is_complete(each))
    if missing:
        commands = " or ".join(f"`edgedistill {command_of(run, stages)}`" for stages in (missing[:1], STAGES))
        raise EdgeDistillError(
            f"`{stage}` needs the stage {missing[0]!r}, which {run.folder} has not completed; run {commands} first."
        )
    advance(run, (stage,), anew=True)
    run.console.emit(build_record(run, (stage,)))
