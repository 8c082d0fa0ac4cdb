"""`calibrate`: the exported student to INT8, on an existing run folder."""

from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.commands.run_stage import run_stage

Images = Annotated[int | None, typer.Option("--images", metavar="N", help="Calibration images.")]
Method = Annotated[str | None, typer.Option("--calibration", metavar="NAME", help="How ranges are chosen.")]


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
    run_stage(run, "calibrate", flags, options.console_of(as_json, quiet, verbose))
