"""Run one stage again on an existing run folder, for `export` and `calibrate`."""

from pathlib import Path
from typing import Any

from edgedistill_cli.console import Console


def run_stage(folder: Path, stage: str, flags: dict[str, Any], console: Console) -> None:
    """Run the stage anew, with `flags` ({"table.key": value}) laid over the run's settings.

    Raises:
        EdgeDistillError: a stage before it is not complete.
    """
    from edgedistill_cli.runs.building import advance, build_record
    from edgedistill_cli.runs.folder import resume_run
    from edgedistill_deploy.errors import EdgeDistillError

    run = resume_run(folder, flags, console)
    missing = [each for each in run.stages_before(stage) if not run.is_complete(each)]
    if missing:
        raise EdgeDistillError(
            f"`{stage}` needs the stage {missing[0]!r}, which {folder} has not completed; run `edgedistill "
            f"{missing[0]}` or `edgedistill build --config {folder / 'settings.toml'} --out {folder}` first."
        )
    advance(run, (stage,), anew=True)
    console.emit(build_record(run, (stage,)))
    console.result(f"{stage}: done, in {folder}")
