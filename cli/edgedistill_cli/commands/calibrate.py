"""`calibrate`: the exported student to FP16 and INT8, on an existing run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Setting, flag, settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateFlags:
    """How the student is quantised."""

    images: Annotated[
        str | None,
        flag("--images", "N|auto", "Training images that ranges are measured on; auto is up to 512."),
        Setting("calibrate.images", options.count_or_text),
    ] = None
    held_out: Annotated[
        str | None,
        flag("--held-out", "N|auto", "Further training images that the results are compared on; auto is up to 512."),
        Setting("calibrate.held_out", options.count_or_text),
    ] = None
    method: Annotated[
        str | None,
        flag(
            "--calibration",
            "NAME",
            "minmax, moving-average, percentile, least-squares, or auto: all, and the best is kept.",
        ),
        Setting("calibrate.method"),
    ] = None
    profile: Annotated[
        str | None,
        flag(
            "--profile",
            "NAME",
            "Where model.int8.onnx is fast: x86 or arm; this machine's kind by default. Both are right on either.",
        ),
        Setting("calibrate.profile"),
    ] = None
    max_drop: Annotated[
        float | None,
        flag(
            "--max-drop",
            "X",
            "Largest loss of accuracy from float to INT8, absolute; beyond it the worst nodes stay in float.",
        ),
        Setting("calibrate.max_drop"),
    ] = None
    fp16: Annotated[
        bool | None,
        typer.Option("--fp16/--no-fp16", help="Also write the files that compute in FP16, or not."),
        Setting("calibrate.fp16"),
    ] = None
    recover: Annotated[
        int | None,
        flag("--recover", "N", "Epochs of quantisation-aware distillation afterwards."),
        Setting("calibrate.recover"),
    ] = None
    ledger_nodes: Annotated[
        str | None,
        flag(
            "--ledger-nodes",
            "N|all",
            "Nodes quantised one by one where a file loses too much, else a few; 0: none, all: every one.",
        ),
        Setting("calibrate.ledger_nodes", options.count_or_text),
    ] = None
    seed: Annotated[int | None, typer.Option("--seed", metavar="N"), Setting("calibrate.seed")] = None
    allow_code: options.AllowCode = None


For = Annotated[
    Path | None,
    flag(
        "--for",
        "LATENCY-RECORD",
        "Calibrate nothing anew: by the node times of this record, write one more INT8 file, for its device alone.",
    ),
]


def calibrate(run: options.RunPath, flags: CalibrateFlags, *, record: For = None, console: Console) -> None:
    """Write the student in FP16 and INT8, with ranges from training images, and record what each step costs."""
    if record is not None:
        from edgedistill_cli.runs.further.for_device import add_for_device

        add_for_device(run, record, settings_of(flags), console)
        return
    from edgedistill_cli.runs.one_stage import run_stage

    run_stage(run, "calibrate", settings_of(flags), console)
