"""`export`: the distilled student to ONNX, on an existing run folder."""

from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.runs.one_stage import run_stage

Opset = Annotated[
    int | None, typer.Option("--opset", metavar="N", help="ONNX operator set, unless the target's own.")
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="What the files are for: onnxruntime, onnxruntime-1.15 to -1.23, tensorrt-10, tensorrt-11 or jetpack-6. It decides the"
        " operator set and the IR version.",
    ),
]


def export(
    run: options.RunPath,
    opset: Opset = None,
    target: Target = None,
    reject: options.Reject = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Export the distilled student (and the teacher beside it) to ONNX, checked against torch on real images."""
    flags = {"export.opset": opset, "export.target": target, "export.reject": reject}
    run_stage(run, "export", flags, options.console_of(as_json, quiet, verbose))
