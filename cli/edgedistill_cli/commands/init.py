"""`init`: a commented settings file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console
from edgedistill_cli.flags import Without

Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]


def init(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("edgedistill.toml"),
    force: Force = False,
    console: Annotated[Console, Without("as_json", "quiet", "verbose")],
) -> None:
    """Write a commented settings file."""
    from importlib import resources

    from edgedistill_deploy.errors import UsageError
    from edgedistill_deploy.files.writing import write_text

    if file.exists() and not force:
        raise UsageError(f"{file} is there already; choose another name, or replace it with --force.")
    write_text(file, resources.files("edgedistill_cli").joinpath("template.toml").read_text(encoding="utf-8"))
    console.result(f"{file} written; fill it in, then: edgedistill build --config {file} --out my-expert")
