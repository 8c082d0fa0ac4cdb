"""`demo`: the whole pipeline on the data and the teacher that ship with EdgeDistill."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli import options
from edgedistill_cli.console import Console
from edgedistill_cli.flags import flag

NEXT_STEPS = """
On your own data, with one folder of images a class (or train/ val/ test/ with such folders):

  edgedistill build --data FOLDER --classes "tabby,golden retriever,red fox" \\
      --teacher timm:resnet50 --student timm:mobilenetv4_conv_small_050 --out my-expert

A teacher of your own: --teacher FOLDER (timm's config.json and model.safetensors), or
--teacher timm:NAME --teacher-weights FILE --teacher-classes FILE. `edgedistill build --help` lists the rest."""


def demo(
    *,
    out: Annotated[Path, flag("--out", "DIR", "The run folder.")] = Path("edgedistill-demo"),
    restart: options.Restart = False,
    console: Console,
) -> None:
    """Distil ten digits out of a 100-character teacher, export, quantise, check, profile and report: no network."""
    from importlib import resources

    from edgedistill_cli import STAGES
    from edgedistill_cli.runs.building import build
    from edgedistill_cli.settings_file import read_settings

    with resources.as_file(resources.files("edgedistill_cli").joinpath("demo.toml")) as file:
        settings = read_settings(file, {})
    verdict: typer.Exit | None = None
    try:
        build(out, settings, STAGES, console, restart=restart)
    except typer.Exit as ended:  # it has run to its end; what stopped it halfway has a next step of its own
        verdict = ended
    console.say(NEXT_STEPS)
    if verdict is not None:
        raise verdict
