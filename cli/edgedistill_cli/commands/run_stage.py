"""`export` and `calibrate`: one stage again, on an existing run folder."""

from pathlib import Path
from typing import Annotated, Any

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console

Opset = Annotated[int | None, typer.Option("--opset", metavar="N", help="ONNX operator set.")]
Images = Annotated[int | None, typer.Option("--images", metavar="N", help="Calibration images.")]
Method = Annotated[str | None, typer.Option("--calibration", metavar="NAME", help="How ranges are chosen.")]


def export(
    run: options.RunPath,
    opset: Opset = None,
    reject: options.Reject = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Export the distilled student (and the teacher beside it) to ONNX, checked against torch on real images."""
    flags = {"export.opset": opset, "export.reject": reject}
    _run_stage(run, "export", flags, options.console_of(as_json, quiet, verbose))


def calibrate(
    run: options.RunPath,
    images: Images = None,
    method: Method = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Quantise the exported student to INT8 with ranges from training images."""
    flags = {"calibrate.images": images, "calibrate.method": method}
    _run_stage(run, "calibrate", flags, options.console_of(as_json, quiet, verbose))


def _run_stage(folder: Path, stage: str, flags: dict[str, Any], console: Console) -> None:
    from edgedistill_cli.building import advance, build_record
    from edgedistill_cli.run import resume_run
    from edgedistill_deploy.errors import EdgeDistillError

    run = resume_run(folder, flags, console)
    missing = [each for each in run.stages_before(stage) if not run.is_complete(each)]
    if missing:
        raise EdgeDistillError(
            f"`{stage}` needs the stage {missing[0]!r}, which {folder} has not completed; run `edgedistill {missing[0]}`"
            f" or `edgedistill build --config {folder / 'settings.toml'} --out {folder}` first."
        )
    advance(run, (stage,), anew=True)
    console.emit(build_record(run, (stage,)))
    console.result(f"{stage}: done, in {folder}")
