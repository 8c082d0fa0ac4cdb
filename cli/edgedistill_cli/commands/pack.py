"""`pack`: the smallest bundle that a device needs."""

from pathlib import Path
from typing import Annotated

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Target = Annotated[
    str,
    flag(
        "--target",
        "NAME",
        "pi, jetson, or a target of export: onnxruntime, onnxruntime-1.15 to -1.23, tensorrt-10, tensorrt-11 or "
        "jetpack-6.",
        show_default=False,
    ),
]
Out = Annotated[Path | None, flag("--out", "DIR|FILE.zip", "Where it goes; BUNDLE-NAME beside the bundle by default.")]
Language = Annotated[
    str | None,
    flag(
        "--language",
        "NAME",
        "Of the program in it, which needs no EdgeDistill: python (the usual one), js, cpp or none; none for TensorRT.",
    ),
]
Precision = Annotated[str | None, flag("--precision", "P", "fp32, fp16 or int8; the recommended by default.")]


def pack(
    bundle: options.BundlePath,
    *,
    target: Target,
    out: Out = None,
    precision: Precision = None,
    language: Language = None,
    console: Console,
) -> None:
    """Write the smallest folder or ZIP that a device needs: one model, its labels, its golden answers, a program."""
    from edgedistill.export.onnx_targets import find_target
    from edgedistill_cli.bundles.packing import pack_for

    known = find_target(target)
    pack_for(
        bundle,
        target,
        reader=known.reader,
        newest=(known.newest_opset, known.newest_ir_version),
        export_name=known.name,
        out=out,
        precision=precision,
        language=language,
        console=console,
    )
