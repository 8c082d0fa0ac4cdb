"""`calibrate`: the exported student to FP16 and INT8, on an existing run folder."""

from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.runs.one_stage import run_stage

Images = Annotated[
    int | None, typer.Option("--images", metavar="N", help="Training images that ranges are measured on.")
]
HeldOut = Annotated[
    int | None,
    typer.Option("--held-out", metavar="N", help="Further training images that the results are compared on."),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="NAME",
        help="minmax, moving-average, percentile, least-squares, or auto: all, and the best is kept.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Where model.int8.onnx is fast: x86 or arm; this machine's kind by default. Both are right on either.",
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="X",
        help="Largest loss of accuracy from float to INT8, absolute; beyond it the worst nodes stay in float.",
    ),
]
Fp16 = Annotated[
    bool | None, typer.Option("--fp16/--no-fp16", help="Also write the files that compute in FP16, or not.")
]
Recover = Annotated[
    int | None,
    typer.Option("--recover", metavar="N", help="Epochs of quantisation-aware distillation afterwards."),
]
LedgerNodes = Annotated[
    int | None,
    typer.Option("--ledger-nodes", metavar="N", help="Nodes quantised one by one at most; 0 for none."),
]


def calibrate(
    run: options.RunPath,
    images: Images = None,
    held_out: HeldOut = None,
    method: Method = None,
    profile: Profile = None,
    max_drop: MaxDrop = None,
    fp16: Fp16 = None,
    recover: Recover = None,
    ledger_nodes: LedgerNodes = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Write the student in FP16 and INT8, with ranges from training images, and record what each step costs."""
    flags = {
        "calibrate.images": images,
        "calibrate.held_out": held_out,
        "calibrate.method": method,
        "calibrate.profile": profile,
        "calibrate.max_drop": max_drop,
        "calibrate.fp16": fp16,
        "calibrate.recover": recover,
        "calibrate.ledger_nodes": ledger_nodes,
        "calibrate.seed": seed,
    }
    run_stage(run, "calibrate", flags, options.console_of(as_json, quiet, verbose))
