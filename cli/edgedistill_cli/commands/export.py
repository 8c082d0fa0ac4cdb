"""`export`: the distilled student to ONNX, on an existing run folder."""

from dataclasses import dataclass
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import Setting, flag, settings_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportFlags:
    """How the ONNX files are written."""

    opset: Annotated[
        int | None, flag("--opset", "N", "ONNX operator set, unless the target's own."), Setting("export.opset")
    ] = None
    target: Annotated[
        str | None,
        flag(
            "--target",
            "NAME",
            "What the files are for: onnxruntime, onnxruntime-1.15 to -1.23, tensorrt-10, tensorrt-11 or "
            "jetpack-6. It decides the operator set and the IR version.",
        ),
        Setting("export.target"),
    ] = None
    reject: options.Reject = None
    teacher_licence: options.TeacherLicence = None
    data_licence: options.DataLicence = None
    allow_code: options.AllowCode = None


AnySize = Annotated[
    bool,
    typer.Option(
        "--any-size",
        help="Export nothing anew: beside each file for ONNX Runtime, write one that takes images of any size.",
    ),
]


def export(run: options.RunPath, flags: ExportFlags, *, any_size: AnySize = False, console: Console) -> None:
    """Export the distilled student (and the teacher beside it) to ONNX, checked against torch on real images."""
    if any_size:
        from edgedistill_cli.runs.further.any_size import add_any_size

        add_any_size(run, settings_of(flags), console)
        return
    from edgedistill_cli.runs.one_stage import run_stage

    run_stage(run, "export", settings_of(flags), console)
