"""`predict`: what the expert says about pictures."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE...",
        help="Images, folders, patterns in quotes such as 'photos/*.jpg', or - for an image on standard input.",
        show_default=False,
    ),
]
JsonLines = Annotated[bool, typer.Option("--jsonl", help="Print one line of JSON for each image, as the answers come.")]
Csv = Annotated[Path | None, flag("--csv", "FILE", "Write the answers as a table for spreadsheets.")]
Top = Annotated[int, flag("--top", "N", "Show the N most probable classes.", min=1)]
Threshold = Annotated[
    float, flag("--threshold", "P", "Below this probability, the answer is: not sure.", min=0.0, max=1.0)
]
Precision = Annotated[str | None, flag("--precision", "P", "fp32, fp16, int8 or teacher; the recommended by default.")]
Runtime = Annotated[
    str | None, flag("--runtime", "NAME", "What runs the model; the recommended, or onnxruntime, by default.")
]
Provider = Annotated[
    str | None, flag("--provider", "NAME[:DEVICE]", "ONNX Runtime's back end; the recommended, or cpu, by default.")
]
BatchSize = Annotated[
    int | None, flag("--batch-size", "N", "Images that the model gets at once; up to 32 by default.", min=1)
]
Save = Annotated[
    Path | None, flag("--save", "DIR", "Copy the images into a folder for each class; nothing there is replaced.")
]
Links = Annotated[bool, typer.Option("--links", help="With --save: make symbolic links instead of copies.")]
Why = Annotated[
    Path | None, flag("--why", "DIR", "Draw which parts of each image speak for its answer, as DIR/NAME-why.png; slow.")
]
Camera = Annotated[
    str | None, flag("--camera", "N", "Answer the frames of camera N or of a video file, until Ctrl-C; needs OpenCV.")
]


def predict(
    bundle: options.BundlePath,
    images: Images = None,
    *,
    top: Top = 1,
    threshold: Threshold = 0.0,
    precision: Precision = None,
    runtime: Runtime = None,
    provider: Provider = None,
    threads: options.Threads = None,
    batch_size: BatchSize = None,
    limit_s: options.LimitS = None,
    csv: Csv = None,
    save: Save = None,
    links: Links = False,
    why: Why = None,
    camera: Camera = None,
    jsonl: JsonLines = False,
    console: Console,
) -> None:
    """Say which class the expert sees in pictures, how probable it is, and how long that took.

    Exit code 1: an image that was named could not be read, or none could.
    """
    from edgedistill_cli.bundles.predicting import Asked, predict_pictures

    asked = Asked(
        images=tuple(images or ()),
        camera=camera,
        top=top,
        threshold=threshold,
        batch_size=batch_size,
        csv=csv,
        save=save,
        links=links,
        why=why,
        lines=jsonl,
        as_json=console.as_json,
    )
    opening = options.not_none(
        precision=precision, runtime=runtime, provider=provider, threads=threads, limit_s=limit_s
    )
    predict_pictures(bundle, asked, opening, console)
