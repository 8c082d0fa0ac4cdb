"""`show`: a bundle or a record as tables."""

from pathlib import Path
from typing import Annotated

import typer

from edgedistill_cli.console import Console

What = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE|RECORD", help="A run folder or bundle, or a record in JSON.", show_default=False),
]


def show(what: What, *, console: Console) -> None:
    """Print what a bundle holds and how good it is, or any record, as tables."""
    from edgedistill_cli.bundles.showing import show_anything

    show_anything(what, console)
